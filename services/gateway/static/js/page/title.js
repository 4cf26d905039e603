/** The tab's title and, if the person allows them, notifications. Both serve people in another tab. */

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
 * Notify a person in another tab that an edit has ended.
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
