/**
 * The page without a server: keeps the page's own files by the hash of their bytes. It never touches /v1 or /api, keys,
 * pictures or samples, and the network always comes first.
 */

const BASE = new URL(".", self.location.href).pathname; // "/", or the sub-path of a proxy
const CACHE = BASE === "/" ? "artmancer.shell" : `artmancer.shell${BASE}`;
const LIST = `${BASE}static/shell.json`;

self.addEventListener("install", (event) => event.waitUntil(fill().then(() => self.skipWaiting())));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { pathname, origin } = new URL(event.request.url);
  const isOurs = origin === self.location.origin && (pathname === BASE || pathname.startsWith(`${BASE}static/`));
  if (event.request.method !== "GET" || !isOurs || pathname.startsWith(`${BASE}static/samples/`)) return;
  event.respondWith(fetch(event.request).catch(() => readKept(pathname)));
  if (event.request.mode === "navigate") event.waitUntil(fill().catch(() => {})); // offline: the cache keeps its files
});

/** Keep every file of the list, and nothing else. Rejects if a file does not match its hash. */
async function fill() {
  const hashes = await (await fetch(LIST, { cache: "no-store" })).json();
  const list = Object.fromEntries(Object.entries(hashes).map(([path, hash]) => [BASE + path.slice(1), hash]));
  const cache = await caches.open(CACHE);
  await Promise.all(Object.entries(list).map(([path, hash]) => keep(cache, path, hash)));
  await cache.put(LIST, new Response(JSON.stringify(list)));
  const wanted = new Set([LIST, ...Object.entries(list).map(([path, hash]) => nameOf(path, hash))]);
  for (const { url } of await cache.keys()) if (!wanted.has(url.slice(self.location.origin.length))) await cache.delete(url);
}

/**
 * @param {Cache} cache
 * @param {string} path
 * @param {string} hash
 */
async function keep(cache, path, hash) {
  const name = nameOf(path, hash);
  if (await cache.match(name)) return;
  const response = await fetch(path, { cache: "no-cache" });
  const bytes = await response.arrayBuffer();
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const hex = Array.from(found, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== hash) throw new Error(`${path} has another hash than the list says.`);
  const headers = new Headers();
  for (const header of ["Content-Type", "Content-Security-Policy"]) {
    const value = response.headers.get(header);
    if (value) headers.set(header, value);
  }
  await cache.put(name, new Response(bytes, { headers }));
}

/**
 * @param {string} path
 * @returns {Promise<Response>}
 */
async function readKept(path) {
  const cache = await caches.open(CACHE);
  const list = await (await cache.match(LIST))?.json();
  const found = list?.[path] && (await cache.match(nameOf(path, list[path])));
  return found ?? Response.error();
}

/**
 * @param {string} path
 * @param {string} hash
 */
function nameOf(path, hash) {
  return `${path}?sha256=${hash}`;
}
