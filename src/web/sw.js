// The service worker of the stage page: opens it when the server cannot be reached. It runs only over HTTPS or
// localhost.
//
// While the server answers, every file comes from the server, so no page is older than the server. Some seconds after
// each visit the page asks the worker to collect: it fetches all files of the page, which it finds by following their
// imports, and keeps them as one set. A visit that the server does not answer gets all its files from that one set, so
// files of two versions never meet.

/** Caches of this worker, one for each complete set. The name ends with a digest of the files. */
const PREFIX = "bandsync-page ";
/** Cache of the sets that open pages came from, by client id: a worker is stopped and started at any time. */
const PAGES = "bandsync-pages";
/** Time that the server has to answer a visit if there is a set. Guessed: longer than a slow network takes. */
const PATIENCE_MS = 4000;
/** Files that no import names. */
const ENTRIES = ["/", "/manifest.webmanifest", "/icon.png", "/favicon.svg", "/sound/awake.mp4"];
/** How a file of the page names another one. */
const NAMES = [
  /\b(?:from|import)\s*\(?\s*["']([^"']+)["']/g,
  /\bnew URL\(\s*["']([^"']+)["']/g,
  /\b(?:src|href)="([^"]+)"/g,
  /\burl\(["']?([^"')]+)["']?\)/g,
];
const FILES_MAX = 200;

/** Whether a page came from the server since the last collection: it may be newer than the set. */
let isOutdated = false;
let collecting = null;

self.addEventListener("install", (event) => {
  event.waitUntil(collect().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(self.clients.claim());
});

self.addEventListener("message", (event) => {
  if (event.data === "collect") event.waitUntil(collect().catch(() => {}));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin || pathname.startsWith("/socket.io")) return;
  if (request.mode !== "navigate") event.respondWith(file(event));
  // The dashboard and the description of the protocol need the server anyway.
  else if (pathname === "/") event.respondWith(visit(event));
});

/** Answers a visit: from the server, else from the newest set. */
async function visit({ request, resultingClientId }) {
  const name = await newest();
  try {
    const answer = await within(name ? PATIENCE_MS : Infinity, fetch(request));
    if (name && answer.status >= 500) throw new Error(`status ${answer.status}`);
    isOutdated = true;
    return answer;
  } catch (error) {
    if (!name) throw error;
    const pages = await caches.open(PAGES);
    await pages.put(`/${resultingClientId}`, new Response(name));
    return inSet(name, "/");
  }
}

/** Answers a request of a page: from the set that the page came from, or from the server. */
async function file({ request, clientId }) {
  const pages = await caches.open(PAGES);
  const own = await (await pages.match(`/${clientId}`))?.text();
  if (own) return (await inSet(own, request)) ?? fetch(request);
  try {
    return await fetch(request);
  } catch (error) {
    const name = isOutdated ? null : await newest();
    const answer = name ? await inSet(name, request) : undefined;
    if (!answer) throw error;
    return answer;
  }
}

async function inSet(name, request) {
  return (await caches.open(name)).match(request, { ignoreVary: true, ignoreSearch: true });
}

const sets = async () => (await caches.keys()).filter((name) => name.startsWith(PREFIX));

const newest = async () => (await sets()).at(-1) ?? null;

function within(ms, promise) {
  if (ms === Infinity) return promise;
  return Promise.race([promise, new Promise((_, fail) => setTimeout(() => fail(new Error("no answer")), ms))]);
}

/** Fetches all files of the page and keeps them as the new set. If the server goes away meanwhile, the old set stays. */
function collect() {
  collecting ??= collectNow().finally(() => {
    collecting = null;
  });
  return collecting;
}

async function collectNow() {
  const files = await fetchAll();
  const name = PREFIX + (await digest(files));
  const old = (await sets()).filter((other) => other !== name);
  const pages = await openPages();
  if (!(await caches.has(name))) {
    const cache = await caches.open(name);
    await Promise.all([...files].map(([path, { answer }]) => cache.put(path, answer)));
    // A page that came from an older set is told, so that it can offer the new one.
    for (const { page, set } of pages) if (old.includes(set)) page.postMessage("new version");
  }
  for (const other of old) if (!pages.some(({ set }) => set === other)) await caches.delete(other);
  isOutdated = false;
}

async function fetchAll() {
  const files = new Map();
  const waiting = [...ENTRIES];
  while (waiting.length > 0 && files.size < FILES_MAX) {
    const path = waiting.shift();
    if (files.has(path)) continue;
    // Asks the server whether the file has changed; most have not.
    const answer = await fetch(path, { cache: "no-cache" });
    // A comment may name a file that does not exist.
    if (answer.status === 404 && !ENTRIES.includes(path)) continue;
    if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
    const bytes = new Uint8Array(await answer.clone().arrayBuffer());
    files.set(path, { answer, bytes });
    if (/javascript|css|html/.test(answer.headers.get("Content-Type"))) {
      waiting.push(...namesIn(new TextDecoder().decode(bytes), path));
    }
  }
  return files;
}

/** Paths on this server that a file names. */
function namesIn(text, path) {
  const base = new URL(path, self.location.origin);
  return NAMES.flatMap((name) => [...text.matchAll(name)].map(([, found]) => found))
    .filter((found) => /^(?:\/(?!\/)|\.\.?\/)/.test(found))
    .map((found) => new URL(found, base).pathname)
    .filter((found) => /\.(?:js|css|svg|png|mp4|webmanifest)$/.test(found));
}

/** Open pages that came from a set: `{ page, set }`. Forgets those that were closed. */
async function openPages() {
  const clients = new Map((await self.clients.matchAll({ type: "window" })).map((page) => [page.id, page]));
  const cache = await caches.open(PAGES);
  const found = [];
  for (const request of await cache.keys()) {
    const page = clients.get(new URL(request.url).pathname.slice(1));
    if (page) found.push({ page, set: await (await cache.match(request)).text() });
    else await cache.delete(request);
  }
  return found;
}

async function digest(files) {
  const parts = [...files.keys()].sort().flatMap((path) => [`${path}\n`, files.get(path).bytes]);
  const hash = await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer());
  return Array.from(new Uint8Array(hash, 0, 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
