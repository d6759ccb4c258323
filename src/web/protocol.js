// The page `/protocol`, made from /asyncapi.json.
import { followSystem, make, reachScrollers } from "./operators.js";

const $ = (id) => document.getElementById(id);

/** What a simple type may be, in a few words. */
function words(schema) {
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(", ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const { minLength: least = 0, maxLength: most, minimum, maximum } = schema;
  const chars = most === undefined ? (least > 0 ? `at least ${least} characters` : "") : `${least} to ${most} characters`;
  const range = [minimum === undefined ? "" : `from ${minimum}`, maximum === undefined ? "" : `to ${maximum}`].filter(Boolean).join(" ");
  const pattern = schema.pattern ? `like ${schema.pattern}` : "";
  const kind = { string: "text", integer: "whole number", boolean: "true or false" }[schema.type] ?? schema.type;
  return [kind, chars, range, pattern, schema.description].filter(Boolean).join(", ");
}

const nameOf = (reference) => reference.split("/").at(-1);

/** A value in words, with links to its types. */
function value(schema, schemas) {
  if (schema.$ref) {
    const name = nameOf(schema.$ref);
    const link = make("a", "", name);
    link.href = `#type-${name}`;
    const { type, items, properties } = schemas[name];
    const isShort = !properties && !(type === "array" && items);
    return isShort ? [link, `: ${words(schemas[name])}`] : [link];
  }
  if (schema.anyOf) return schema.anyOf.flatMap((one, i) => (i === 0 ? value(one, schemas) : [", or ", ...value(one, schemas)]));
  if (schema.type === "array") return ["list of ", ...value(schema.items, schemas)];
  if (schema.type === "null") return ["null"];
  return [words(schema)];
}

/** The fields of an object as a table. */
function fields(schema, schemas, title) {
  const all = Object.entries(schema.properties ?? {});
  if (all.length === 0) return make("p", "faint", "No fields.");
  const cell = (tag, scope, ...inside) => {
    const made = make(tag, "", ...inside);
    if (scope) made.scope = scope;
    return made;
  };
  const rows = all.map(([name, one]) => {
    const need = schema.required.includes(name) ? "required" : "optional";
    return make("tr", "", cell("th", "row", name), cell("td", "", need), cell("td", "", ...value(one, schemas)));
  });
  const head = make("tr", "", ...["Field", "Needed", "Value"].map((text) => cell("th", "col", text)));
  const table = make("table", "", make("thead", "", head), make("tbody", "", ...rows));
  table.setAttribute("aria-label", title);
  return make("div", "scroll", table);
}

function code(text, title) {
  const box = make("pre", "", make("code", "", text));
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", title);
  return box;
}

const json = (one) => JSON.stringify(one, null, 2);
const exampleOf = (message) => message.examples?.[0]?.payload;

/** A heading that is a link to itself. */
function heading(id, name) {
  const link = make("a", "", name);
  link.href = `#${id}`;
  return make("h3", "", link);
}

function entry(id, name, ...parts) {
  const made = make("section", "entry", heading(id, name), ...parts);
  Object.assign(made, { id });
  Object.assign(made.dataset, { event: name });
  return made;
}

function sent(message, ack, schemas) {
  const { name } = message;
  const [done, ...others] = ack.payload.anyOf;
  const rate = message["x-rate"];
  const also = others.slice(0, -1);
  return entry(
    `event-${name}`, name,
    make("p", "", message.summary),
    make("h4", "", "Fields"),
    fields(message.payload, schemas, `Fields of ${name}`),
    make("h4", "", "Example"),
    code(`socket.emit(${JSON.stringify(name)}, ${json(exampleOf(message))}, (answer) => console.log(answer));`, `Example of ${name}`),
    make("h4", "", "Acknowledged with"),
    fields(done, schemas, `Acknowledgement of ${name}`),
    also.length > 0 ? make("p", "", "or ", ...also.flatMap((one, i) => [...(i > 0 ? [", or "] : []), ...value(one, schemas)])) : null,
    make("h4", "", "Rejected with"),
    make("ul", "codes", ...message["x-refusals"].map((one) => make("li", "", make("code", "", one)))),
    make("p", "faint", rate.perSecond ? `At most ${rate.perSecond} a second, ${rate.burst} at once.` : "Any number a second."),
  );
}

function received(message, schemas) {
  const { name } = message;
  return entry(
    `notice-${name}`, name,
    make("p", "", message.summary),
    make("h4", "", "Fields"),
    fields(message.payload, schemas, `Fields of ${name}`),
    make("h4", "", "Example"),
    code(`socket.on(${JSON.stringify(name)}, (${name.replace(/\W/g, "_")}) => …);\n\n${json(exampleOf(message))}`, `Example of ${name}`),
  );
}

function type(name, schema, schemas) {
  const inside = schema.type === "object" ? fields(schema, schemas, `Fields of ${name}`) : make("p", "", ...value(schema, schemas));
  const about = schema.type === "object" && schema.description ? make("p", "", schema.description) : null;
  return entry(`type-${name}`, name, about, inside);
}

/** The rules of the document, one for each sentence. */
const sentences = (text) => text.match(/[^.]+(?:\.(?!\s)[^.]*)*\.?/g).map((one) => one.trim()).filter(Boolean);

function links(groups) {
  const link = (section) => {
    const made = make("a", "", section.dataset.event);
    made.href = `#${section.id}`;
    return make("li", "", made);
  };
  return groups.map(([title, box]) => {
    const heading = make("h2", "", title);
    return make("div", "", heading, make("ul", "", ...[...box.children].map(link)));
  });
}

function show(api) {
  const { messages, schemas } = api.components;
  const of = (kind) => Object.entries(messages).filter(([id]) => id.endsWith(`.${kind}`)).map(([, message]) => message);
  const { protocol } = api.servers.here;
  const url = `${protocol === "wss" ? "https" : "http"}://${api.servers.here.host}`;
  $("version").textContent = `version ${api.info.version}`;
  $("example").textContent = `import { io } from "socket.io-client";

const socket = io(${JSON.stringify(url)});
socket.on("scroll_tick", (tick) => console.log(tick.positionMs));
const joined = await socket.emitWithAck("join_session", { sessionId: "rehearsal", displayName: "Ann" });
if (!joined.ok) throw new Error(joined.error.message);
await socket.emitWithAck("play", { sessionId: "rehearsal" });`;
  $("about").replaceChildren(...sentences(api.info.description).map((one) => make("li", "", one)));
  const limits = api["x-limits"];
  const rows = [
    ["Size of a message", `${limits.messageBytes} bytes`],
    ["Events of one client", `${limits.eventsPerSecond || "any number"} a second`],
    ["Rejected events of one client", `${limits.refusalsPerMinute || "any number"} a minute, then it is closed`],
  ];
  $("limit-rows").replaceChildren(
    ...rows.map(([what, most]) => {
      const first = make("th", "", what);
      first.scope = "row";
      return make("tr", "", first, make("td", "", most));
    }),
  );
  $("sent").append(...of("sent").map((one) => sent(one, messages[`${one.name}.ack`], schemas)));
  $("received").append(...of("received").map((one) => received(one, schemas)));
  $("types").append(...Object.entries(schemas).map(([name, schema]) => type(name, schema, schemas)));
  $("links").append(...links([["Clients send", $("sent")], ["The server sends", $("received")], ["Types", $("types")]]));
}

/** Shows the entries whose names contain the text, and says how many they are. */
function find(text) {
  const wanted = text.trim().toLowerCase();
  let count = 0;
  for (const section of document.querySelectorAll(".entry")) {
    const fits = section.dataset.event.toLowerCase().includes(wanted);
    section.hidden = !fits;
    count += fits ? 1 : 0;
  }
  for (const item of $("links").querySelectorAll("li")) item.hidden = !item.textContent.toLowerCase().includes(wanted);
  for (const group of $("links").children) group.hidden = !group.querySelector("li:not([hidden])");
  $("found").textContent = wanted === "" ? "" : `${count} found`;
}

/** Marks the link of the entry that is being read. */
function follow() {
  const byId = new Map([...$("links").querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  let current = null;
  const mark = (id) => {
    const link = byId.get(id);
    if (!link || link === current) return;
    current?.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    current = link;
  };
  const seen = new IntersectionObserver(
    (changes) => {
      const entering = changes.filter((one) => one.isIntersecting).sort((a, b) => a.boundingClientRect.top - b.boundingClientRect.top);
      if (entering.length > 0) mark(entering[0].target.id);
    },
    { rootMargin: "0px 0px -80% 0px" },
  );
  for (const section of document.querySelectorAll(".entry")) seen.observe(section);
}

followSystem();
const lookForScrollers = reachScrollers(".scroll, pre, .contents");
try {
  const answer = await fetch("/asyncapi.json");
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  show(await answer.json());
  follow();
  lookForScrollers();
  $("find").addEventListener("input", ({ target }) => find(target.value));
  // The target of the address was not there before.
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  $("problem").textContent = `The description could not be loaded (${error.message}). Load this page again.`;
  $("problem").hidden = false;
}
