// The form: what is asked for, as the page's own address and requests have it.

export const $ = (id) => document.getElementById(id);
export const page = $("playground");
export const options = [...document.querySelectorAll("[data-kind]")];
const KEPT_KEY = "thumbnailer.key";
const RENDITION = new Set(["thumb_width", "thumb_height", "fit", "dpr", "format", "quality"]);

export const key = () => $("key").value.trim();
export const keyHeaders = () => (key() ? { "X-API-Key": key() } : {});
export const isOfRendition = (name) => RENDITION.has(name);

// By RFC 3986, as signatures want it.
export const encode = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (sign) => "%" + sign.charCodeAt(0).toString(16).toUpperCase());
export const query = (asked) => Object.entries(asked).map(([name, text]) => `${name}=${encode(text)}`).join("&");

const hasUsual = (control) => ["flag", "choice"].includes(control.dataset.kind);
const textOf = (control) => (control.type === "checkbox" ? String(control.checked) : control.value.trim());
const isUsual = (control) => hasUsual(control) && textOf(control) === control.dataset.default;

export function asked() {
  const written = $("url").value.trim();
  const url = !written || /^[a-z][a-z0-9+.-]*:\/\//i.test(written) ? written : `https://${written}`;
  const chosen = options.filter((control) => !control.disabled && textOf(control) && !isUsual(control));
  return Object.fromEntries([...(url ? [["url", url]] : []), ...chosen.map((control) => [control.name, textOf(control)])]);
}

export const valueOf = (given, name) =>
  given[name] ?? options.find((control) => control.name === name)?.dataset.default ?? "";

export const hasSize = (given) => Boolean(valueOf(given, "thumb_width") || valueOf(given, "thumb_height"));
const isOfMaster = (given) => hasSize(given) || ["png", "avif", "auto"].includes(valueOf(given, "format"));
const captured = (given) => query(Object.fromEntries(Object.entries(given).filter(([name]) => !RENDITION.has(name))));
// Whether the same capture serves both, whatever the size and format.
export const isOneCapture = (one, other) => isOfMaster(one) && isOfMaster(other) && captured(one) === captured(other);

// The same as JSON wants it.
export function typed(given) {
  const kinds = Object.fromEntries(options.map((control) => [control.name, control.dataset.kind]));
  const inJson = { flag: (text) => text === "true", integer: Number, number: Number };
  return Object.fromEntries(Object.entries(given).map(([name, text]) => [name, (inJson[kinds[name]] ?? String)(text)]));
}

// --- what the address of this page says -------------------------------------------------------

const isNarrow = matchMedia("(max-width: 61.99rem)"); // one column: playground.css

// Where the options stand between the picture and how to use it, they take no room until somebody wants them.
export function foldUp() {
  if (isNarrow.matches) for (const group of document.querySelectorAll("details.group")) group.open = false;
}

export function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  $("url").value = given.get("url") ?? "";
  for (const control of options) {
    const text = given.get(control.name);
    const usual = hasUsual(control) ? control.dataset.default : "";
    if (control.type === "checkbox") control.checked = (text ?? usual) === "true";
    else control.value = text ?? usual;
    if (control.value === "" && control.tagName === "SELECT") control.value = usual;
    if (text !== null) control.closest("details").open = true;
  }
}

export function remember(given = asked()) {
  const state = query(given);
  try {
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  } catch { /* Safari: no more than a hundred in half a minute; the next one says it all */ }
}

// --- the key ----------------------------------------------------------------------------------

export function keepKey() {
  try {
    if ($("keep").checked && key()) sessionStorage.setItem(KEPT_KEY, key());
    else sessionStorage.removeItem(KEPT_KEY);
  } catch { /* a browser that keeps nothing */ }
}

export function recallKey() {
  try {
    $("key").value = sessionStorage.getItem(KEPT_KEY) ?? "";
    $("keep").checked = Boolean(key());
  } catch { /* likewise */ }
}
