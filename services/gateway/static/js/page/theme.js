/** The light or dark theme: the system's preference until the user chooses; the choice is kept. */

const KEY = "artmancer.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {string | null} */
function readChoice() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is blocked: the choice lasts until the page is closed
  }
}

function apply(/** @type {string | null} */ theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

/** The theme on screen. */
function current() {
  return document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
}

/** Switch the theme. Store the choice only if it differs from the system's preference. */
export function toggleTheme() {
  const next = current() === "dark" ? "light" : "dark";
  const preferred = dark.matches ? "dark" : "light";
  apply(next);
  try {
    if (next === preferred) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // storage is blocked: see readChoice()
  }
}

apply(readChoice());
