/**
 * The page's language. English texts stand in the code and in the page; another language is one table from the English
 * text to its own (`texts/de.js`), which is loaded only when it is used.
 */

const KEY = "artmancer.language";
const LANGUAGES = ["en", "de"];
const ATTRIBUTES = ["aria-label", "placeholder", "title", "data-tip", "content"];

/** @type {Record<string, string>} */
let table = {};
const isFinger = matchMedia("(pointer: coarse)").matches;

/** The language on screen. */
export const language = chooseLanguage();

/** Use another language from now on. The page reloads without a loss, because the desk keeps the stage. */
export function switchLanguage() {
  const next = LANGUAGES[(LANGUAGES.indexOf(language) + 1) % LANGUAGES.length];
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // storage is blocked: the browser's language remains
  }
  location.reload();
}

/**
 * A text in the page's language. `{name}` stands for a value.
 * @param {string} text
 * @param {Record<string, string | number>} [values]
 */
export function t(text, values = {}) {
  return worded(table[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * For a finger a click is a tap.
 * @param {string} text
 */
function worded(text) {
  if (!isFinger) return text;
  return language === "de"
    ? text.replace(/([Kk])lick/g, (_, letter) => (letter === "K" ? "Tipp" : "tipp"))
    : text.replace(/\b([Cc])lick/g, (_, letter) => (letter === "C" ? "Tap" : "tap"));
}

/**
 * A whole number as people write it.
 * @param {number} value
 */
export function count(value) {
  return value.toLocaleString(language);
}

/** @returns {string} */
function chooseLanguage() {
  let stored = null;
  try {
    stored = localStorage.getItem(KEY);
  } catch {
    // storage is blocked: the browser's language remains
  }
  const wanted = [stored, ...navigator.languages.map((name) => name.slice(0, 2))];
  return wanted.find((name) => name !== null && LANGUAGES.includes(name)) ?? "en";
}

/** Translate the texts and the named attributes of the page. */
function translatePage() {
  const walker = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const text = (node.nodeValue ?? "").trim();
    if (text) node.nodeValue = (node.nodeValue ?? "").replace(text, () => t(text));
  }
  for (const name of ATTRIBUTES) {
    for (const element of document.querySelectorAll(`[${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(name) ?? ""));
    }
  }
}

document.documentElement.lang = language;
if (language === "de") table = (await import("../texts/de.js")).GERMAN;
if (language === "de" || isFinger) translatePage();
