/** The tab's title and, if they are allowed, notifications: for a person who works in another tab meanwhile. */

const TITLE = document.title;
let lasting = "";

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  lasting = "";
  showInTitle("");
});

/**
 * Show a short state in the tab's title.
 * @param {string} state  or an empty string
 */
export function showInTitle(state) {
  const shown = state || lasting;
  document.title = shown ? `${shown} · ${TITLE}` : TITLE;
}

/**
 * Tell a person who looks elsewhere that an edit has ended.
 * @param {string} text
 */
export function notify(text) {
  if (!document.hidden) return;
  lasting = text;
  showInTitle("");
  if (canNotify() && Notification.permission === "granted")
    new Notification(TITLE, { body: text, icon: "static/icon.svg" });
}

/** Whether the browser may be asked for notifications. */
export function mayAsk() {
  return canNotify() && Notification.permission === "default";
}

/** Whether notifications exist here: not in every browser, and not over plain HTTP. */
function canNotify() {
  return isSecureContext && typeof Notification !== "undefined";
}
