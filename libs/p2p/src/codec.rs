//! Frames: four bytes of length (big endian), then BCS. The limits are checked before anything is allocated.

use crate::message::{Call, Reply};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use kaldrix_types::limits;
use libp2p::request_response;
use libp2p::swarm::StreamProtocol;
use serde::{Serialize, de::DeserializeOwned};
use std::io;

/// The protocol's name; the version changes with the messages.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/kaldrix/blocks/2");

/// One block with its header and signature.
const CALL_BYTES_MAX: usize = limits::BLOCK_BODY_BYTES_MAX + limits::HEADER_BYTES_MAX + limits::SIGNATURE_BYTES_MAX + 1024;
/// Several blocks; the first may be as large as a block can be.
const REPLY_BYTES_MAX: usize = 2 * CALL_BYTES_MAX;
/// Room is made for what has arrived, in steps: a length alone costs a peer nothing.
const STEP: usize = 256 * 1024;

/// See the module's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Codec;

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Call;
    type Response = Reply;

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Call> {
        match read(io, CALL_BYTES_MAX).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Call::Garbage(error.to_string())),
            result => result,
        }
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Reply> {
        read(io, REPLY_BYTES_MAX).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T, call: Call) -> io::Result<()> {
        let Call::Push(block) = &call else { return write(io, &call).await };
        // All peers' pushes share one block: only what stands before it is made anew for each.
        io.write_all(&push_head(block.len())?).await?;
        io.write_all(block).await?;
        io.close().await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T, reply: Reply) -> io::Result<()> {
        write(io, &reply).await
    }
}

/// Everything of the frame of a [`Call::Push`] but the block: the frame's length, then BCS's variant and length (ULEB128).
fn push_head(block_bytes: usize) -> io::Result<Vec<u8>> {
    const PUSH_VARIANT: u8 = 1;
    let mut bcs = vec![PUSH_VARIANT];
    let mut rest = block_bytes;
    while rest >= 0x80 {
        bcs.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    bcs.push(rest as u8);
    let length = u32::try_from(bcs.len() + block_bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok([length.to_be_bytes().as_slice(), &bcs].concat())
}

async fn read<T: AsyncRead + Unpin + Send, M: DeserializeOwned>(io: &mut T, limit: usize) -> io::Result<M> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is over the limit of {limit}")));
    }
    let mut frame = Vec::with_capacity(length.min(STEP));
    while frame.len() < length {
        let at = frame.len();
        frame.resize(length.min(at + STEP), 0);
        io.read_exact(&mut frame[at..]).await?;
    }
    kaldrix_types::decode(&frame, limit).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

async fn write<T: AsyncWrite + Unpin + Send, M: Serialize>(io: &mut T, message: &M) -> io::Result<()> {
    let bytes = kaldrix_types::encode(message);
    let length = u32::try_from(bytes.len()).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(&bytes).await?;
    io.close().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::executor::block_on;
    use futures::io::Cursor;
    use request_response::Codec as _;

    #[test]
    fn a_push_is_written_as_any_other_call_would_be_and_read_again() {
        for size in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let call = Call::Push(Bytes::from(vec![7; size]));
            let (mut fast, mut plain) = (Cursor::new(Vec::new()), Cursor::new(Vec::new()));
            block_on(Codec.write_request(&PROTOCOL, &mut fast, call.clone())).unwrap();
            block_on(write(&mut plain, &call)).unwrap();
            assert!(fast.get_ref() == plain.get_ref(), "{size} bytes");
            let read = block_on(Codec.read_request(&PROTOCOL, &mut Cursor::new(fast.into_inner()))).unwrap();
            assert!(read == call, "{size} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_peer_sends_is_a_call_garbage_or_an_error(bytes: Vec<u8>, framed: bool) {
            let bytes = if framed { [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat() } else { bytes };
            if let Ok(call) = block_on(Codec.read_request(&PROTOCOL, &mut Cursor::new(bytes.clone()))) {
                let _ = matches!(call, Call::Ask(request) if request.is_within_limits());
            }
            let _ = block_on(Codec.read_response(&PROTOCOL, &mut Cursor::new(bytes)));
        }
    }
}
