/** Keyboard shortcuts of the whole page, inactive in text fields. */

/** @typedef {Record<string, () => unknown>} Keymap  an action that is `false` leaves the key to the browser; a key, lower case, after "ctrl+" and "shift+" where they are held */

const TYPED = "input:not([type=range], [type=radio], [type=checkbox]), textarea, select, dialog";
const NAVIGATED = "button, a, summary, input";

/** @param {Keymap} keymap */
export function listenForKeys(keymap) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey) return;
    const control = event.ctrlKey || event.metaKey;
    const at = event.target instanceof Element ? event.target : null;
    const typing = at?.closest(TYPED) && !(control && event.key === "Enter");
    if (typing || (event.key === " " && at?.closest(NAVIGATED))) return;
    const shift = event.shiftKey && (control || event.key.length > 1);
    const name = `${control ? "ctrl+" : ""}${shift ? "shift+" : ""}${event.key.toLowerCase()}`;
    const action = keymap[name];
    if (!action) return;
    if (action() !== false) event.preventDefault();
  });
}
