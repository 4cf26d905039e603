/** The API key of this tab, if the server requires one. It is entered once and forgotten when the tab is closed. */

import { byId } from "./dom.js";
import { t } from "./texts.js";

const NAME = "artmancer.key";
const ASK = t("Ask the operator of this studio for a key. It stays in this tab until you close the tab.");
const WRONG = t("This key is wrong, incomplete or expired.");

let key = readKey();
/** @type {Promise<boolean> | null} */
let asking = null;

/** The key, or an empty string. */
export function currentKey() {
  return key;
}

/** The public part of the key, or an empty string. */
export function keyId() {
  return /^am_([0-9a-f]{12})_/.exec(key)?.[1] ?? "";
}

/**
 * Ask the user for a key, once for all waiting requests. Returns whether there is a new key to try.
 * @param {string} refused  the key that the server refused
 */
export async function askForKey(refused) {
  if (key !== refused) return true; // another request has received a new key meanwhile
  asking ??= enter().finally(() => (asking = null));
  return asking;
}

/** @returns {Promise<boolean>} */
function enter() {
  const dialog = byId("access", HTMLDialogElement);
  const field = byId("key", HTMLInputElement);
  byId("key-note", HTMLElement).textContent = key ? WRONG : ASK;
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" && keep(field.value.trim())), {
      once: true,
    });
  });
}

/** Fires `key` when another key is entered. */
export const access = new EventTarget();

/** @param {string} entered */
function keep(entered) {
  key = entered;
  access.dispatchEvent(new Event("key"));
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // storage is blocked: the key is kept until the page is closed
  }
  return key !== "";
}

function readKey() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}
