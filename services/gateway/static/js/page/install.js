/** The page as an app: its files are kept for a time without a server, and the browser may install it. */

import { byId } from "./dom.js";

const LATER_MS = 2000; // after the first photo is there

/** Over plain HTTP, except on this machine, there is no service worker, and nothing is offered. */
export function offerInstallation() {
  if (!isSecureContext || !("serviceWorker" in navigator)) return;
  const button = byId("install", HTMLButtonElement);
  /** @type {(Event & {prompt?: () => Promise<unknown>}) | null} */
  let offer = null;
  addEventListener("beforeinstallprompt", (event) => {
    event.preventDefault();
    offer = event;
    button.hidden = false;
  });
  button.addEventListener("click", async () => {
    button.hidden = true;
    await offer?.prompt?.();
  });
  const register = () => navigator.serviceWorker.register("service-worker.js").catch(() => {}); // optional
  setTimeout(() => navigator.onLine && register(), LATER_MS);
}
