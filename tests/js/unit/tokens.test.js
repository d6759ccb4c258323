// Tokens of seats: where they are kept, and how the tabs of a browser share them out.
import assert from "node:assert/strict";
import test from "node:test";
import { memory, SeatToken, stores } from "../../../src/web/tokens.js";

const KEY = "bandsync.token host stage";
const TOKEN = /^[A-Za-z0-9_-]{22}$/;

/** A browser: each tab has a `sessionStorage` of its own, and all share `localStorage`. */
function browser() {
  const localStorage = memory();
  return { localStorage, tab: (own = memory()) => new SeatToken(KEY, [own, localStorage]) };
}

test("a kept token is used again, until it is forgotten", async () => {
  const store = memory();
  const first = new SeatToken(KEY, [store]);
  await first.claim();
  assert.match(first.token, TOKEN);
  const second = new SeatToken(KEY, [store]);
  await second.claim();
  assert.equal(second.token, first.token);
  const elsewhere = new SeatToken("bandsync.token host other", [store]);
  await elsewhere.claim();
  assert.notEqual(elsewhere.token, first.token);
  second.forget();
  await second.claim();
  assert.notEqual(second.token, first.token);
});

test("a new token is kept beside the old one until a join with both is accepted", async () => {
  const store = memory();
  const token = new SeatToken(KEY, [store]);
  await token.claim();
  const old = token.token;
  token.rotate();
  const reloaded = new SeatToken(KEY, [store]);
  await reloaded.claim();
  assert.deepEqual([reloaded.token, reloaded.newToken], [old, token.newToken]);
  assert.match(token.newToken, TOKEN);
  reloaded.confirm();
  const last = new SeatToken(KEY, [store]);
  await last.claim();
  assert.deepEqual([last.token, last.newToken], [token.newToken, null]);
});

test("nonsense in the store is no token", async () => {
  const store = memory();
  for (const kept of ["", "short", "a token with spaces in it.....", "{}", "x".repeat(65)]) {
    store.setItem(KEY, kept);
    const token = new SeatToken(KEY, [store]);
    await token.claim();
    assert.match(token.token, TOKEN, kept);
  }
});

test("a second tab has a token of its own, which it has again after a reload", async (t) => {
  const { tab } = browser();
  const first = tab();
  await first.claim();
  const own = memory();
  const second = tab(own);
  await second.claim();
  t.after(() => [first, second].forEach((one) => one.close()));
  assert.notEqual(second.token, first.token);
  second.close();
  const reloaded = tab(own);
  await reloaded.claim();
  assert.equal(reloaded.token, second.token);
  // A copy of the tab has a copy of its store.
  const copy = memory();
  copy.setItem(KEY, own.getItem(KEY));
  const copied = tab(copy);
  await copied.claim();
  assert.ok(![first.token, reloaded.token].includes(copied.token));
  // When the first tab is closed, another one gets its token.
  first.close();
  const third = tab();
  await third.claim();
  assert.equal(third.token, first.token);
  for (const one of [reloaded, copied, third]) one.close();
});

test("of two tabs that open at once, one gets the kept token", async () => {
  const { tab, localStorage } = browser();
  const kept = "0123456789-0123456789_";
  localStorage.setItem(KEY, kept);
  const tabs = [tab(), tab(), tab()];
  await Promise.all(tabs.map((one) => one.claim()));
  const tokens = tabs.map((one) => one.token);
  assert.equal(tokens.filter((token) => token === kept).length, 1);
  assert.equal(new Set(tokens).size, 3);
  for (const one of tabs) one.close();
});

test("without storage a token lasts as long as its member", async () => {
  const broken = { getItem() { throw new Error("blocked"); }, setItem() { throw new Error("blocked"); }, removeItem() {} };
  const token = new SeatToken(KEY, [broken]);
  await token.claim();
  const before = token.token;
  token.rotate();
  const { newToken } = token;
  await token.claim();
  assert.deepEqual([token.token, token.newToken], [before, newToken]);
  // In Node.js there is no page.
  assert.equal(stores().length, 1);
  assert.equal(stores(broken)[0], broken);
  globalThis.window = { get sessionStorage() { throw new Error("blocked"); }, localStorage: memory() };
  assert.equal(stores().length, 1);
  globalThis.window = { sessionStorage: memory(), localStorage: memory() };
  assert.equal(stores().length, 2);
  assert.equal(stores(null).length, 1);
  delete globalThis.window;
});
