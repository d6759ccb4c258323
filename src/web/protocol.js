// The page `/protocol`, made from /asyncapi.json.

/** An element with text or children; text stays text. */
function element(tag, inside = [], attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...[inside].flat());
  return made;
}

/** The possible values in a few words; types are links. */
function words(schema) {
  if (schema.$ref) {
    const name = schema.$ref.split("/").at(-1);
    return [element("a", name, { href: `#type-${name}` })];
  }
  if (schema.anyOf) return schema.anyOf.flatMap((one, i) => (i === 0 ? words(one) : [" or ", ...words(one)]));
  if (schema.enum) return [schema.enum.map((one) => JSON.stringify(one)).join(", ")];
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.type === "array") return ["list of ", ...words(schema.items)];
  const chars = schema.maxLength === undefined ? "" : `, ${schema.minLength ?? 0} to ${schema.maxLength} characters`;
  const range = [
    schema.minimum === undefined ? "" : ` from ${schema.minimum}`,
    schema.maximum === undefined ? "" : ` to ${schema.maximum}`,
  ].join("");
  const more = [schema.pattern, schema.description].filter(Boolean).map((one) => `, ${one}`).join("");
  return [`${schema.type}${chars}${range}${more}`];
}

function fields(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, one]) => {
    const optional = schema.required.includes(name) ? "" : "?";
    return element("tr", [element("td", name + optional), element("td", words(one))]);
  });
  return rows.length === 0 ? element("p", "No fields.", { class: "faint" }) : element("table", rows);
}

const shape = (schema) => (schema.type === "object" ? fields(schema) : element("p", words(schema)));

function event(message, ack) {
  const parts = [element("h3", message.name), element("p", message.summary), fields(message.payload)];
  if (ack) {
    const [done, ...others] = ack.payload.anyOf;
    const repeated = others.length > 1 ? [element("p", ["or ", ...words(others[0])], { class: "faint" })] : [];
    const rate = message["x-rate"];
    parts.push(
      element("p", "Acknowledged with", { class: "faint" }),
      fields(done),
      ...repeated,
      element("p", `Rejected with ${message["x-refusals"].join(", ")}.`, { class: "faint" }),
      element("p", `${rate.perSecond || "Any number"} a second, ${rate.burst || "any number"} at once.`, { class: "faint" }),
    );
  }
  return element("section", parts, { "data-event": message.name });
}

const api = await (await fetch("/asyncapi.json")).json();
const { messages, schemas } = api.components;
const of = (kind) => Object.entries(messages).filter(([id]) => id.endsWith(`.${kind}`));

document.getElementById("about").textContent = api.info.description;
document.getElementById("sent").append(...of("sent").map(([, one]) => event(one, messages[`${one.name}.ack`])));
document.getElementById("received").append(...of("received").map(([, one]) => event(one)));
document.getElementById("types").append(
  ...Object.entries(schemas).map(([name, schema]) =>
    element("section", [element("h3", name), shape(schema)], { id: `type-${name}` }),
  ),
);
document.getElementById("find").addEventListener("input", ({ target }) => {
  for (const section of document.querySelectorAll("[data-event]")) {
    section.hidden = !section.dataset.event.includes(target.value.trim());
  }
});
