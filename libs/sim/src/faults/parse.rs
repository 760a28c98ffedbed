//! Reads fault scripts, one line at a time.

use super::{Behaviour, Fault, FaultKind, Lost, Who};

/// A script that cannot be read, or names what does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct FaultsError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What was expected there.
    pub message: String,
}

struct Line<'a> {
    tokens: Vec<(usize, &'a str)>,
    position: usize,
    number: usize,
    end: usize,
}

type Parsed<T> = Result<T, FaultsError>;

/// `None` for an empty line.
pub(super) fn line(text: &str, number: usize) -> Parsed<Option<Fault>> {
    let text = text.split('#').next().unwrap_or_default();
    let tokens = tokens(text);
    if tokens.is_empty() {
        return Ok(None);
    }
    let mut line = Line { tokens, position: 0, number, end: text.trim_end().chars().count() + 1 };
    line.fault().map(Some)
}

/// Words, with `,`, `|` and `->` standing by themselves.
fn tokens(text: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    let mut word: Option<(usize, usize)> = None;
    let mut skip_until = 0;
    for (column, (at, c)) in text.char_indices().enumerate() {
        if at < skip_until {
            continue;
        }
        let alone = if text[at..].starts_with("->") { 2 } else { usize::from(matches!(c, ',' | '|')) };
        if alone > 0 || c.is_whitespace() {
            tokens.extend(word.take().map(|(column, start)| (column, &text[start..at])));
            if alone > 0 {
                tokens.push((column + 1, &text[at..at + alone]));
                skip_until = at + alone;
            }
        } else if word.is_none() {
            word = Some((column + 1, at));
        }
    }
    tokens.extend(word.take().map(|(column, start)| (column, &text[start..])));
    tokens
}

impl<'a> Line<'a> {
    fn error<T>(&self, expected: &str) -> Parsed<T> {
        let (column, found) = match self.tokens.get(self.position) {
            Some((column, token)) => (*column, format!("`{token}`")),
            None => (self.end, "the end of the line".to_owned()),
        };
        Err(FaultsError { line: self.number, column, message: format!("expected {expected}, found {found}") })
    }

    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.position).map(|(_, token)| *token)
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.peek() == Some(token);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, token: &str) -> Parsed<()> {
        if self.eat(token) { Ok(()) } else { self.error(&format!("`{token}`")) }
    }

    /// The next token, if `read` can make sense of it.
    fn read<T>(&mut self, expected: &str, read: impl FnOnce(&'a str) -> Option<T>) -> Parsed<T> {
        match self.peek().and_then(read) {
            Some(value) => {
                self.position += 1;
                Ok(value)
            }
            None => self.error(expected),
        }
    }

    fn time(&mut self) -> Parsed<u64> {
        self.read("a time such as 250ms, 2s or 1m", time_ms)
    }

    fn share(&mut self) -> Parsed<u32> {
        self.read("a share such as 5% or 0.5%", per_mille)
    }

    fn fault(&mut self) -> Parsed<Fault> {
        let mut from_ms = 0;
        let mut until_ms = None;
        if self.eat("at") {
            from_ms = self.time()?;
        } else if self.eat("from") {
            from_ms = self.time()?;
            if self.eat("to") {
                let until = self.read("a time after the first one", |t| time_ms(t).filter(|until| *until > from_ms))?;
                until_ms = Some(until);
            }
        }
        let mut what = self.action()?;
        if until_ms.is_none() && self.eat("for") {
            until_ms = Some(from_ms + self.time()?);
        }
        if let FaultKind::Crash { lost, .. } = &mut what
            && *lost == Lost::Memory
        {
            *lost = self.lost()?;
        }
        if self.position < self.tokens.len() {
            return self.error("the end of the line");
        }
        Ok(Fault { from_ms, until_ms, what, line: self.number })
    }

    fn action(&mut self) -> Parsed<FaultKind> {
        const ACTIONS: &str = "an action: crash, pause, partition, cut, loss, duplicate, reorder, delay, jitter, bandwidth, slow, disk, clock, \
                               byzantine, miscommit or corrupt";
        let start = self.position;
        let action = self.read(ACTIONS, Some)?;
        Ok(match action {
            "crash" => FaultKind::Crash { who: self.who()?, lost: self.lost()? },
            "pause" => FaultKind::Pause { who: self.who()? },
            "partition" => {
                let mut groups = vec![self.who()?];
                while self.eat("|") {
                    groups.push(self.who()?);
                }
                FaultKind::Partition { groups }
            }
            "cut" => {
                let from = self.who()?;
                self.expect("->")?;
                FaultKind::Cut { from, to: self.who()? }
            }
            "loss" => self.loss()?,
            "duplicate" => FaultKind::Duplicate { per_mille: self.share()? },
            "reorder" => {
                let per_mille = self.share()?;
                FaultKind::Reorder { per_mille, by_ms: self.by()? }
            }
            "delay" => FaultKind::Delay { ms: self.time()?, on: self.on()? },
            "jitter" => FaultKind::Jitter { ms: self.time()?, on: self.on()? },
            "bandwidth" => {
                let who = self.who()?;
                self.expect("at")?;
                FaultKind::Bandwidth { who, kbit: self.read("a rate above zero such as 500kbit, 10mbit or 1gbit", kbit)? }
            }
            "slow" => FaultKind::Slow { who: self.who()?, ms: self.by()? },
            "disk" => FaultKind::SlowDisk { who: self.who()?, ms: self.by()? },
            "clock" => {
                let who = self.who()?;
                self.expect("by")?;
                FaultKind::Clock { who, ms: self.read("a signed time such as +300ms or -5s", signed_ms)? }
            }
            "byzantine" => FaultKind::Byzantine { who: self.who()?, behaviour: self.behaviour()? },
            "miscommit" => FaultKind::Miscommit { who: self.who()? },
            "corrupt" => FaultKind::Corrupt { who: self.who()? },
            _ => {
                self.position = start;
                return self.error(ACTIONS);
            }
        })
    }

    fn by(&mut self) -> Parsed<u64> {
        self.expect("by")?;
        self.time()
    }

    fn on(&mut self) -> Parsed<Who> {
        if self.eat("on") { self.who() } else { Ok(Who::All) }
    }

    fn lost(&mut self) -> Parsed<Lost> {
        if !self.eat("losing") {
            return Ok(Lost::Memory);
        }
        self.expect("disk")?;
        if !self.eat("and") {
            return Ok(Lost::Disk);
        }
        self.expect("keys")?;
        Ok(Lost::DiskAndKeys)
    }

    fn loss(&mut self) -> Parsed<FaultKind> {
        let per_mille = self.share()?;
        let mut between = (Who::All, Who::All);
        if self.eat("between") {
            let these = self.who()?;
            self.expect("and")?;
            between = (these, self.who()?);
        }
        let as_delay = self.eat("as");
        if as_delay {
            self.expect("delay")?;
        }
        Ok(FaultKind::Loss { per_mille, between, as_delay })
    }

    fn who(&mut self) -> Parsed<Who> {
        const WHO: &str = "validators such as 0,2,4-6, `all`, or `region` and a name";
        if self.eat("all") {
            return Ok(Who::All);
        }
        if self.eat("region") {
            return Ok(Who::Region(self.read("a region's name", |name| Some(name.to_owned()))?));
        }
        let mut list = Vec::new();
        loop {
            list.extend(self.read(WHO, range)?);
            if !self.eat(",") {
                break;
            }
        }
        list.sort_unstable();
        list.dedup();
        Ok(Who::These(list))
    }

    fn behaviour(&mut self) -> Parsed<Behaviour> {
        const BEHAVIOURS: &str = "a behaviour: silent, equivocate-halves, equivocate-each, withhold WHO, withhold-body WHO, invalid-parents, \
                                  invalid-signatures, invalid-timestamps, late TIME, lie-in-sync, flood or bad-transactions";
        let start = self.position;
        let name = self.read(BEHAVIOURS, Some)?;
        Ok(match name {
            "silent" => Behaviour::Silent,
            "equivocate-halves" => Behaviour::EquivocateHalves,
            "equivocate-each" => Behaviour::EquivocateEach,
            "withhold" => Behaviour::Withhold(self.who()?),
            "withhold-body" => Behaviour::WithholdBody(self.who()?),
            "invalid-parents" => Behaviour::InvalidParents,
            "invalid-signatures" => Behaviour::InvalidSignatures,
            "invalid-timestamps" => Behaviour::InvalidTimestamps,
            "late" => Behaviour::Late(self.time()?),
            "lie-in-sync" => Behaviour::LieInSync,
            "flood" => Behaviour::Flood,
            "bad-transactions" => Behaviour::BadTransactions,
            _ => {
                self.position = start;
                return self.error(BEHAVIOURS);
            }
        })
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    Some((number.parse().ok().filter(|n| *n <= 1_000_000_000)?, unit))
}

fn time_ms(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    match unit {
        "ms" => Some(number),
        "s" => Some(number * 1_000),
        "m" => Some(number * 60_000),
        _ => None,
    }
}

fn signed_ms(text: &str) -> Option<i64> {
    let magnitude = |text| time_ms(text).and_then(|ms| i64::try_from(ms).ok());
    match text.strip_prefix('-') {
        Some(rest) => magnitude(rest).map(|ms| -ms),
        None => magnitude(text.strip_prefix('+').unwrap_or(text)),
    }
}

fn kbit(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor = match unit {
        "kbit" => 1,
        "mbit" => 1_000,
        "gbit" => 1_000_000,
        _ => return None,
    };
    Some(number * factor).filter(|kbit| *kbit > 0)
}

fn per_mille(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('%')?;
    let (whole, tenth) = digits.split_once('.').unwrap_or((digits, "0"));
    let value = whole.parse::<u32>().ok()?.checked_mul(10)? + Some(tenth).filter(|t| t.len() == 1)?.parse::<u32>().ok()?;
    (value <= 1_000).then_some(value)
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let (low, high) = (number(low)?, number(high)?);
    (low <= high && high < 10_000).then_some(low..=high)
}

#[cfg(test)]
mod tests {
    use super::super::Faults;
    use super::*;

    #[test]
    fn a_script_says_who_when_and_what() {
        let text = "# all of it\n\nat 2s crash 3 for 5s losing disk and keys\nfrom 1s to 4s partition 0,1 | 2-3\n  byzantine 3 late 400ms # slow\n";
        let faults = Faults::parse(text).unwrap();
        assert_eq!(faults.list.len(), 3);
        let [crash, partition, late] = &faults.list[..] else { panic!("three faults") };
        assert_eq!((crash.from_ms, crash.until_ms, crash.line), (2_000, Some(7_000), 3));
        assert_eq!(crash.what, FaultKind::Crash { who: Who::These(vec![3]), lost: Lost::DiskAndKeys });
        assert_eq!(partition.what, FaultKind::Partition { groups: vec![Who::These(vec![0, 1]), Who::These(vec![2, 3])] });
        assert_eq!(late.what, FaultKind::Byzantine { who: Who::These(vec![3]), behaviour: Behaviour::Late(400) });
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = "from 2000ms to 7000ms crash 3 losing disk\nfrom 10ms pause region eu-west-1\ncut 0 -> 1,2\nloss 12.5% between 0 and all as delay\n\
                    duplicate 5%\nreorder 20% by 300ms\ndelay 80ms on region us-east-1\njitter 5ms on all\nbandwidth 2 at 10000kbit\nslow 2 by 100ms\n\
                    disk 2 by 300ms\nclock 2 by -5000ms\nbyzantine 1 withhold 2,3\nbyzantine 1 flood\nmiscommit 2\ncorrupt 1\nfrom 0ms to 5ms partition 0 | 1,2\n";
        assert_eq!(Faults::parse(text).unwrap().to_string(), text);
    }

    #[test]
    fn an_error_names_line_and_column_and_what_was_expected() {
        let cases = [
            ("at 2 crash 3", "line 1, column 4: expected a time such as 250ms, 2s or 1m, found `2`"),
            ("\nat 2s explode 3", "line 2, column 7: expected an action"),
            ("crash", "line 1, column 6: expected validators such as 0,2,4-6, `all`, or `region` and a name, found the end of the line"),
            ("from 4s to 2s loss 1%", "line 1, column 12: expected a time after the first one, found `2s`"),
            ("loss 101%", "line 1, column 6: expected a share such as 5% or 0.5%, found `101%`"),
            ("cut 0 1", "line 1, column 7: expected `->`, found `1`"),
            ("byzantine 3 polite", "line 1, column 13: expected a behaviour"),
            ("pause 3 please", "line 1, column 9: expected the end of the line, found `please`"),
        ];
        for (text, expected) in cases {
            let error = Faults::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn validators_and_regions_that_do_not_exist_are_named() {
        let regions = ["lan".to_owned()];
        let check = |text| Faults::parse(text).unwrap().check(4, &regions);
        assert!(check("crash 0-3\npause region lan").is_ok());
        assert_eq!(
            check("crash 1\npause 2,4").unwrap_err().to_string(),
            "line 2, column 1: there is no validator 4: validators are 0 to 3, regions lan"
        );
        assert!(check("delay 5ms on region mars").is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = Faults::parse(&text);
        }

        #[test]
        fn words_of_the_grammar_in_any_order_never_panic(words in proptest::collection::vec("(at|from|to|1s|crash|0,1|\\||->|cut|loss|5%|by|for|all|region|-1s)", 0..9)) {
            let _ = Faults::parse(&words.join(" "));
        }
    }
}
