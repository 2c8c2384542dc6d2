// How to ask for the same: the address, the <img> and the commands of what the form says.

import { $, asked, hasSize, page, query, valueOf } from "./playground_form.js";

const EXAMPLE = "https://example.com/";
const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const inHtml = (text) => text.replace(/[&<>"]/g, (sign) => ENTITIES[sign]);
const inShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// As it was written where URL would spell it as xn--…, which is nothing to be read out.
export function hostOf(url) {
  if (!URL.canParse(url)) return "the page";
  const { hostname } = new URL(url);
  return (hostname.includes("xn--") && /:\/\/([^/?#:]+)/.exec(url)?.[1]) || hostname;
}

function unsignedAddress(state) {
  const here = page.dataset.base ? `${page.dataset.base.replace(/\/+$/, "")}/thumb` : new URL(page.dataset.thumb, location.href).href;
  return `${here}?${state}`;
}

const densityOf = (given) => Number(valueOf(given, "dpr")) || 1;

// The same picture for screens that are twice as dense: another size of the same capture.
export const denser = (given) => (hasSize(given) && densityOf(given) === 1 ? { ...given, dpr: "2" } : null);

// Room for the picture before it is there, where its size is known.
function sizeOf(given, shown) {
  if (!shown) return "";
  const density = densityOf(given);
  return `width="${Math.round(shown.width / density)}" height="${Math.round(shown.height / density)}" `;
}

function tagOf(address, denseAddress, size, host) {
  const dense = denseAddress ? `     srcset="${inHtml(denseAddress)} 2x"\n` : "";
  return `<img src="${inHtml(address)}"\n${dense}     ${size}loading="lazy" decoding="async" alt="Preview of ${inHtml(host)}">`;
}

// For whoever has a shell on the service's machine, and no key.
function signCommandOf({ url, ...given }) {
  const chosen = Object.entries(given).map(([name, text]) => ` --option ${inShell(`${name}=${text}`)}`);
  const end = $("exp").selectedOptions[0].dataset.life;
  return `flask sign ${inShell(url)}${chosen.join("")}${end ? ` --exp ${end}` : ""}`;
}

function noteOn(given, isSigned, needsKey) {
  if (!given.url) return "An example, until there is an address above.";
  if (isSigned) return "Signed: whoever has this address sees the picture, without a key.";
  return needsKey ? "Without a key or a signature only what is public is answered." : "";
}

// What a device brings along stands in the fields that it fills.
function describeDevice() {
  const device = $("device")?.selectedOptions[0]?.dataset ?? {};
  for (const [name, usual] of [["width", device.width], ["height", device.height], ["device_scale_factor", device.scale]]) {
    const control = $(name);
    if (control) control.placeholder = usual ?? control.dataset.default;
  }
}

// `shown` is the picture on the page, `signed` a signed address; each counts for the state that it was made for.
export function describe({ shown, signed }) {
  const given = asked();
  const state = query(given);
  const isSigned = signed !== null && signed.state === state;
  const needsKey = page.dataset.closed === "true" && !isSigned;
  const example = { url: EXAMPLE, ...given };
  const address = isSigned ? signed.url : unsignedAddress(query(example));
  const dense = denser(example);
  const denseAddress = isSigned ? signed.denseUrl : dense && unsignedAddress(query(dense));
  const sizes = sizeOf(given, shown?.state === state ? shown : null);
  const extension = { auto: "jpg", jpeg: "jpg" }[valueOf(given, "format")] ?? valueOf(given, "format");
  $("address").textContent = address;
  $("tag").textContent = tagOf(address, denseAddress, sizes, hostOf(example.url));
  $("curl").textContent = `curl --output thumb.${extension}${needsKey ? ' --header "X-API-Key: $THUMBNAILER_KEY"' : ""} ${inShell(address)}`;
  if ($("command")) $("command").textContent = signCommandOf(example);
  $("use").textContent = noteOn(given, isSigned, needsKey);
  describeDevice();
}
