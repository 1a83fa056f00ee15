/** A static host for the tests, on a port of its own. */

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".json": "application/json",
  ".mjs": "text/javascript", ".wasm": "application/wasm", ".png": "image/png",
};
const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/**
 * @param {Record<string, string>} roots Folders by the first part of an address.
 * @param {{isolated?: boolean}} [options]
 */
export async function serve(roots, { isolated = true } = {}) {
  const asked = [];
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
    asked.push(path);
    const [, first, ...rest] = path.split("/");
    const root = Object.hasOwn(roots, first) && first ? join(roots[first], ...rest) : join(roots[""] ?? "/none", path);
    const file = path.endsWith("/") ? join(root, "index.html") : root;
    let size;
    try {
      size = statSync(file).isFile() ? statSync(file).size : undefined;
    } catch {}
    if (size === undefined) return response.writeHead(404).end();
    response.writeHead(200, {
      "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
      "Content-Length": size,
      "Cache-Control": "no-store",
      ...(isolated ? ISOLATION : {}),
    });
    createReadStream(file).pipe(response);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    asked,
    url: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((done) => server.close(done)) && server.closeAllConnections(),
  };
}
