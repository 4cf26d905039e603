/** Light or dark: what the system prefers, until the person says otherwise; then that, in every visit. */

const KEY = "artmancer.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {string | null} */
function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is blocked: the choice lasts as long as the page
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

/** Show the other theme and remember it, unless it is what the system prefers anyway. */
export function toggleTheme() {
  const next = current() === "dark" ? "light" : "dark";
  const preferred = dark.matches ? "dark" : "light";
  apply(next);
  try {
    if (next === preferred) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // storage is blocked: see chosen()
  }
}

apply(chosen());
