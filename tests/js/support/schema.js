// Checks payloads against `/asyncapi.json`. Knows as much of JSON Schema as that uses.

/** Fetches the document of a server. Returns it with functions that look up messages. */
export async function protocolOf(server) {
  const answer = await fetch(`http://127.0.0.1:${server.port}/asyncapi.json`);
  if (answer.status !== 200) throw new Error(`/asyncapi.json: ${answer.status}`);
  const document = await answer.json();
  const { messages } = document.components;
  const of = (kind) => Object.values(messages).filter((_, i) => Object.keys(messages)[i].endsWith(`.${kind}`));
  return {
    document,
    sent: of("sent").map((one) => one.name),
    received: of("received").map((one) => one.name),
    message: (name, kind) => messages[`${name}.${kind}`],
    /** The faults of a payload, one sentence each. Empty if it matches. */
    faults(name, kind, payload) {
      const message = messages[`${name}.${kind}`];
      return message ? faults(document, message.payload, payload, name) : [`${name}.${kind} is not described`];
    },
  };
}

function faults(document, schema, value, at) {
  const found = [];
  const check = (good, what) => good || found.push(`${at}: ${what}, is ${JSON.stringify(value)?.slice(0, 200)}`);
  if (schema.$ref) {
    const target = schema.$ref.slice(2).split("/").reduce((inside, key) => inside[key], document);
    return faults(document, target, value, at);
  }
  if (schema.anyOf) {
    const tries = schema.anyOf.map((one) => faults(document, one, value, at));
    return tries.some((one) => one.length === 0) ? [] : tries.sort((a, b) => a.length - b.length)[0];
  }
  const kind = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
  if (schema.type === "integer") check(Number.isInteger(value), "expected an integer");
  else if (schema.type) check(kind === schema.type, `expected ${schema.type}`);
  if (schema.const !== undefined) check(value === schema.const, `expected ${schema.const}`);
  if (schema.enum) check(schema.enum.includes(value), `expected one of ${schema.enum}`);
  if (kind === "number") {
    if (schema.minimum !== undefined) check(value >= schema.minimum, `below ${schema.minimum}`);
    if (schema.maximum !== undefined) check(value <= schema.maximum, `above ${schema.maximum}`);
  }
  if (kind === "string") {
    const length = [...value].length;
    if (schema.minLength !== undefined) check(length >= schema.minLength, `shorter than ${schema.minLength}`);
    if (schema.maxLength !== undefined) check(length <= schema.maxLength, `longer than ${schema.maxLength}`);
    if (schema.pattern) check(new RegExp(schema.pattern).test(value), `unlike ${schema.pattern}`);
  }
  if (kind === "array" && schema.items) {
    value.forEach((one, i) => found.push(...faults(document, schema.items, one, `${at}[${i}]`)));
  }
  if (kind === "object" && schema.properties) {
    for (const name of schema.required ?? []) check(Object.hasOwn(value, name), `${name} is missing`);
    for (const [name, one] of Object.entries(value)) {
      const property = Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
      if (property) found.push(...faults(document, property, one, `${at}.${name}`));
      else check(schema.additionalProperties, `${name} is not described`);
    }
  }
  return found;
}
