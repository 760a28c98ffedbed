// Renders openapi.json. All text goes in as text, never as markup.
"use strict";

const at = (id) => document.getElementById(id);

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = String(text);
  if (className) element.className = className;
  return element;
}

const refName = (ref) => ref.split("/").pop();

// A schema as a short phrase; references become links.
function typeOf(schema) {
  const span = make("span", undefined, "mono");
  if (!schema) return span;
  if (schema.$ref) {
    const a = make("a", refName(schema.$ref));
    a.href = "#schema-" + encodeURIComponent(refName(schema.$ref));
    span.append(a);
  } else if (schema.oneOf || schema.anyOf || schema.allOf) {
    const parts = schema.oneOf || schema.anyOf || schema.allOf;
    parts.forEach((part, i) => { if (i) span.append(" or "); span.append(typeOf(part)); });
  } else if (schema.items) {
    span.append("list of ", typeOf(schema.items));
  } else {
    span.append([].concat(schema.type || "any").join(" or "));
  }
  return span;
}

function table(heads, rows) {
  const wrap = make("div", undefined, "scroll");
  const element = make("table");
  const head = make("tr");
  for (const text of heads) { const th = make("th", text); th.scope = "col"; head.append(th); }
  const thead = make("thead");
  thead.append(head);
  const body = make("tbody");
  for (const cells of rows) {
    const row = make("tr");
    for (const content of cells) { const td = make("td"); td.append(content); row.append(td); }
    body.append(row);
  }
  element.append(thead, body);
  wrap.append(element);
  return wrap;
}

function schemaOf(content) {
  const media = Object.keys(content || {})[0];
  return media ? [media, content[media].schema] : ["", null];
}

function operation(path, method, op) {
  const details = make("details");
  const summary = make("summary");
  summary.append(make("span", method, "method"), make("code", path), make("span", " " + (op.summary || ""), "quiet"));
  const body = make("div");
  if (op.description) body.append(make("p", op.description));
  if (op.parameters && op.parameters.length) {
    body.append(make("h3", "Parameters"));
    body.append(table(["Name", "In", "Type", "Meaning"], op.parameters.map((p) => [make("code", p.name), p.in, typeOf(p.schema), p.description || ""])));
  }
  if (op.requestBody) {
    const [media, schema] = schemaOf(op.requestBody.content);
    const p = make("p", media + ": ");
    p.append(typeOf(schema));
    body.append(make("h3", "Body"), p);
  }
  body.append(make("h3", "Responses"));
  body.append(table(["Status", "Type", "Meaning"], Object.entries(op.responses).map(([status, response]) => {
    const [media, schema] = schemaOf(response.content);
    const type = make("span", media + " ");
    type.append(typeOf(schema));
    return [status, type, response.description || ""];
  })));
  details.append(summary, body);
  return details;
}

function schemaDetails(name, schema) {
  const details = make("details");
  details.id = "schema-" + encodeURIComponent(name);
  details.append(make("summary", name));
  const body = make("div");
  if (schema.description) body.append(make("p", schema.description));
  const fields = Object.entries(schema.properties || {});
  if (fields.length) {
    const required = new Set(schema.required || []);
    body.append(table(["Field", "Type", "", "Meaning"], fields.map(([field, value]) => [make("code", field), typeOf(value), required.has(field) ? "always" : "", value.description || ""])));
  } else {
    body.append(typeOf(schema));
  }
  details.append(body);
  return details;
}

function openTarget() {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}

function render(document_) {
  at("title").textContent = document_.info.title;
  at("version").textContent = document_.info.version;
  at("description").textContent = document_.info.description;
  const byTag = new Map((document_.tags || []).map((tag) => [tag.name, [tag, []]]));
  for (const [path, operations] of Object.entries(document_.paths)) {
    for (const [method, op] of Object.entries(operations)) {
      const tag = (op.tags || ["other"])[0];
      if (!byTag.has(tag)) byTag.set(tag, [{ name: tag }, []]);
      byTag.get(tag)[1].push(operation(path, method, op));
    }
  }
  for (const [tag, list] of byTag.values()) {
    at("operations").append(make("h2", tag.name), make("p", tag.description || "", "quiet"), ...list);
  }
  const schemas = document_.components.schemas;
  at("schema-list").append(...Object.entries(schemas).map(([name, schema]) => schemaDetails(name, schema)));
  at("code-list").append(...Object.entries(schemas.ErrorCode["x-codes"]).map(([code, meaning]) => {
    const row = make("tr");
    const status = make("td", meaning.status, "number");
    const name = make("td");
    name.append(make("code", code));
    row.append(name, status, make("td", meaning.help));
    return row;
  }));
  addEventListener("hashchange", openTarget);
  openTarget();
}

fetch("/openapi.json").then((response) => response.json()).then(render).catch((error) => {
  at("description").textContent = "openapi.json cannot be loaded: " + error.message;
});
