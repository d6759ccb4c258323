// The types of the library and of the protocol: samples compile in strict mode, and the declarations have the members
// that the library has.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { BandSync, BandSyncError } from "../../../src/web/bandsync.js";
import { BandClock } from "../../../src/web/clock.js";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));

const OPTIONS = {
  strict: true,
  noEmit: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
  types: [],
};

/** The complaints of the compiler about some files, with everything that they import. */
function compile(files, options = {}) {
  const program = ts.createProgram(files, { ...OPTIONS, ...options });
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const where = file ? `${file.fileName}:${file.getLineAndCharacterOfPosition(start).line + 1}` : "";
    return `${where} ${ts.flattenDiagnosticMessageText(messageText, "\n")}`;
  });
}

test("a page with the library compiles in strict mode", () => {
  assert.deepEqual(compile([path("../types/library.ts")]), []);
});

test("programs with the unmodified socket.io-client compile in strict mode, and so does the library's README", (t) => {
  const scratch = mkdtempSync(join(tmpdir(), "bandsync-types-"));
  t.after(() => rmSync(scratch, { recursive: true, force: true }));
  symlinkSync(path("../node_modules"), join(scratch, "node_modules"));
  const text = readFileSync(path("../../../src/web/README.md"), "utf8");
  const blocks = [...text.matchAll(/^```(?:js|ts|html)\n([^]*?)^```$/gm)];
  assert.equal(blocks.length, 3);
  const shown = blocks.map(([, block], i) => {
    const file = join(scratch, `${i}.mts`);
    writeFileSync(file, block.replace(/<\/?script.*>/g, "").replace("http://127.0.0.1:3001/bandsync.js", "bandsync"));
    return file;
  });
  const paths = { bandsync: [path("../../../src/web/bandsync.d.ts")], "bandsync/protocol": [path("../../../src/web/protocol.d.ts")] };
  // The declarations of socket.io-client itself need not pass these options.
  assert.deepEqual(compile([path("../types/socket.ts"), ...shown], { paths, skipLibCheck: true }), []);
});

/** Names of the public members of a declared class or interface. */
function declared(name) {
  const file = path("../../../src/web/bandsync.d.ts");
  const source = ts.createSourceFile(file, readFileSync(file, "utf8"), ts.ScriptTarget.ES2022);
  const found = source.statements.find((statement) => statement.name?.text === name);
  const names = found.members.map((member) => (ts.isConstructorDeclaration(member) ? "constructor" : member.name.text));
  return [...new Set(names)].sort();
}

/** Names of the public members of an object: its own, and those of its class. */
const present = (object, kind) => [...new Set([...Object.keys(object), ...Object.getOwnPropertyNames(kind.prototype)])].sort();

test("the declarations list the members of the library", () => {
  const band = new BandSync({ url: "http://127.0.0.1", WebSocket: class {} });
  const inherited = ["addEventListener", "removeEventListener"];
  assert.deepEqual(declared("BandSync"), [...present(band, BandSync), ...inherited].sort());
  const conflict = { revision: 1, songId: "a", song: null };
  const error = new BandSyncError({ code: "too_large", field: "body", retryAfter: 1, bytes: 2, max: 1, ...conflict });
  assert.deepEqual(declared("BandSyncError"), present(error, BandSyncError));
  const clock = present(new BandClock(), BandClock);
  for (const name of declared("BandClock")) assert.ok(clock.includes(name), name);
});
