// The playground: asks for pictures as any program does, shows what comes back, and says how to ask for the same.

const $ = (id) => document.getElementById(id);
const page = $("playground");
const options = [...document.querySelectorAll("[data-kind]")];
const KEY = "thumbnailer.key";
const RENDITION = new Set(["thumb_width", "thumb_height", "fit", "dpr", "format", "quality"]);
// As browsers ask for pictures; and what went wrong is wanted in words.
const ACCEPT = "image/avif,image/webp,image/*;q=0.9,application/problem+json";
const AT_ONCE_MS = 500;

let running = null; // the AbortController of the request under way
let shown = null; // the picture on the page: what was asked for, its size, its object URL
let signed = null; // a signed address, and what it is for
let later = 0; // the timer of a request that a change will cause
let ticking = 0; // the timer of a countdown

// --- what is asked for ------------------------------------------------------------------------

// By RFC 3986, as signatures want it.
const encode = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (sign) => "%" + sign.charCodeAt(0).toString(16).toUpperCase());
const query = (asked) => Object.entries(asked).map(([name, text]) => `${name}=${encode(text)}`).join("&");
const textOf = (control) => (control.type === "checkbox" ? String(control.checked) : control.value.trim());
const isUsual = (control) => ["flag", "choice"].includes(control.dataset.kind) && textOf(control) === control.dataset.default;

function asked() {
  const written = $("url").value.trim();
  const url = !written || /^[a-z][a-z0-9+.-]*:\/\//i.test(written) ? written : `https://${written}`;
  const chosen = options.filter((control) => !control.disabled && textOf(control) && !isUsual(control));
  return Object.fromEntries([...(url ? [["url", url]] : []), ...chosen.map((control) => [control.name, textOf(control)])]);
}

const valueOf = (given, name) => given[name] ?? options.find((control) => control.name === name)?.dataset.default ?? "";
const hasSize = (given) => Boolean(valueOf(given, "thumb_width") || valueOf(given, "thumb_height"));
// Whether the same capture serves, whatever the size and format.
const isOfMaster = (given) => hasSize(given) || ["png", "avif", "auto"].includes(valueOf(given, "format"));
const captured = (given) => query(Object.fromEntries(Object.entries(given).filter(([name]) => !RENDITION.has(name))));
const costsNoCapture = (given) =>
  shown !== null && isOfMaster(given) && isOfMaster(shown.asked) && captured(given) === captured(shown.asked);

function typed(given) {
  const kinds = Object.fromEntries(options.map((control) => [control.name, control.dataset.kind]));
  const inJson = { flag: (text) => text === "true", integer: Number, number: Number };
  return Object.fromEntries(Object.entries(given).map(([name, text]) => [name, (inJson[kinds[name]] ?? String)(text)]));
}

const key = () => $("key").value.trim();
const keyHeaders = () => (key() ? { "X-API-Key": key() } : {});

// --- what the address of this page says -------------------------------------------------------

function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  $("url").value = given.get("url") ?? "";
  for (const control of options) {
    const text = given.get(control.name);
    const usual = ["flag", "choice"].includes(control.dataset.kind) ? control.dataset.default : "";
    if (control.type === "checkbox") control.checked = (text ?? usual) === "true";
    else control.value = text ?? usual;
    if (control.value === "" && control.tagName === "SELECT") control.value = usual;
    if (text !== null) control.closest("details").open = true;
  }
  describe();
}

function remember() {
  const state = query(asked());
  try {
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  } catch { /* Safari: no more than a hundred in half a minute; the next one says it all */ }
}

// --- how to ask for the same ------------------------------------------------------------------

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const inHtml = (text) => text.replace(/[&<>"]/g, (sign) => ENTITIES[sign]);
const inShell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const hostOf = (url) => (URL.canParse(url) ? new URL(url).hostname : "the page");
const isSigned = (state) => signed !== null && signed.state === state;

function addressOf(state) {
  if (isSigned(state)) return signed.url;
  const here = page.dataset.base ? `${page.dataset.base.replace(/\/+$/, "")}/thumb` : new URL(page.dataset.thumb, location.href).href;
  return `${here}?${state}`;
}

function describe() {
  const given = asked();
  const state = query(given);
  const address = addressOf(given.url ? state : query({ url: "https://example.com/", ...given }));
  const size = shown && shown.state === state ? shown : null;
  const density = Number(valueOf(given, "dpr")) || 1;
  const sizes = size ? ` width="${Math.round(size.width / density)}" height="${Math.round(size.height / density)}"` : "";
  const extension = { auto: "jpg", jpeg: "jpg" }[valueOf(given, "format")] ?? valueOf(given, "format");
  const isClosed = page.dataset.closed === "true";
  const needsKey = isClosed && !isSigned(state);
  $("address").textContent = address;
  $("tag").textContent = `<img src="${inHtml(address)}"${sizes} loading="lazy" alt="Preview of ${inHtml(hostOf(given.url ?? "https://example.com/"))}">`;
  $("curl").textContent = `curl --output thumb.${extension}${needsKey ? ' --header "X-API-Key: $THUMBNAILER_KEY"' : ""} ${inShell(address)}`;
  $("use").textContent = !given.url ? "An example, until there is an address above."
    : isSigned(state) ? "Signed: whoever has this address sees the picture, without a key."
      : needsKey ? "Without a key or a signature only what is public is answered." : "";
  const device = $("device")?.selectedOptions[0]?.dataset ?? {};
  for (const [name, usual] of [["width", device.width], ["height", device.height], ["device_scale_factor", device.scale]]) {
    const control = $(name);
    if (control) control.placeholder = usual ?? control.dataset.default;
  }
}

// --- what came back ---------------------------------------------------------------------------

function element(name, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.textContent = text;
  return made;
}

const seconds = (number) => (number < 0.9995 ? `${Math.round(number * 1000)} ms` : `${number.toFixed(number < 10 ? 2 : 1)} s`);

function span(number) {
  const [count, unit] = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]].find(([size]) => number >= size) ?? [1, "second"];
  const many = Math.floor(number / count);
  return `${many} ${unit}${many === 1 ? "" : "s"}`;
}

const exactly = (number) => `${number.toLocaleString("en")} bytes`;

function roughly(number) {
  if (number < 1000) return exactly(number);
  return number < 1e6 ? `${(number / 1000).toFixed(1)} kB` : `${(number / 1e6).toFixed(2)} MB`;
}

// A fact, and what is to be said of it besides.
function fact(text, remark) {
  const whole = element("span", text);
  if (remark) whole.append(element("small", remark));
  return whole;
}

function tell(facts) {
  const list = $("facts");
  list.replaceChildren(...facts.filter(([, content]) => content).map(([name, content, isWide]) => {
    const part = element("div", "", { className: isWide ? "wide" : "" });
    const told = element("dd");
    told.append(content);
    part.append(element("dt", name), told);
    return part;
  }));
  list.hidden = !list.childElementCount;
}

function tellOf(answer, blob, tookSeconds) {
  const header = (name) => answer.headers.get(name);
  const said = header("X-Cache") ?? "";
  const age = Number(header("Age") ?? 0);
  const most = Number(/max-age=(\d+)/.exec(header("Cache-Control") ?? "")?.[1] ?? 0);
  const steps = [...(header("Server-Timing") ?? "").matchAll(/([\w-]+)[^,]*?;dur=([\d.]+)/g)];
  tell([
    ["X-Cache", said && element("span", said, { className: `badge ${said.toLowerCase()}` })],
    ["Pixels", `${shown.width.toLocaleString("en")} × ${shown.height.toLocaleString("en")}`],
    ["Size", fact(roughly(blob.size), blob.size < 1000 ? "" : exactly(blob.size))],
    ["Content type", header("Content-Type")],
    ["Time taken", seconds(tookSeconds)],
    ["Age", fact(span(age), most > age ? `good for ${span(most - age)} more` : "")],
    ["Cache-Status", header("Cache-Status"), true],
    ["Server-Timing", steps.map(([, name, dur]) => `${name} ${seconds(Number(dur) / 1000)}`).join(" · "), true],
    ["Request id", header("X-Request-ID"), true],
  ]);
}

// What is larger than its frame can be scrolled by keyboard as well.
function reach() {
  const { scrollHeight, clientHeight, scrollWidth, clientWidth } = $("stage");
  $("stage").tabIndex = scrollHeight > clientHeight || scrollWidth > clientWidth ? 0 : -1;
}

async function show(answer, given, tookSeconds, body, signal) {
  const url = URL.createObjectURL(body);
  const decoded = Object.assign(new Image(), { src: url });
  await decoded.decode();
  signal.throwIfAborted();
  const picture = $("picture");
  picture.src = url;
  if (shown) URL.revokeObjectURL(shown.object);
  shown = { asked: given, state: query(given), width: decoded.naturalWidth, height: decoded.naturalHeight, object: url };
  picture.alt = `Picture of ${hostOf(given.url)}`;
  picture.hidden = false;
  $("save").href = url;
  $("save").download = `${hostOf(given.url)}.${body.type.replace("image/", "").replace("jpeg", "jpg")}`;
  for (const id of ["save", "zoom", "retake"]) $(id).hidden = false;
  $("stage").dataset.state = "shown";
  reach();
  tellOf(answer, body, tookSeconds);
  const trouble = answer.headers.get("X-Problem");
  if (trouble) complain({ title: "An old picture, because a new one could not be taken", type: `/problems/${trouble}` }, true);
  const sources = { HIT: "From the cache", STALE: trouble ? "An old one" : "The old one, while a new one is taken behind it" };
  say(`${sources[answer.headers.get("X-Cache")] ?? "Taken"}: ${shown.width} × ${shown.height}, in ${seconds(tookSeconds)}.`);
}

// --- what went wrong --------------------------------------------------------------------------

function say(text) {
  $("status").textContent = text;
}

function clearFaults() {
  clearInterval(ticking);
  for (const fault of document.querySelectorAll(".fault")) fault.hidden = true;
  for (const control of document.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  $("problem").hidden = $("retry").hidden = true;
}

// Put a message at its field; whether there is one.
function blame(name, messages) {
  const [control, fault] = [$(name), $(`fault-${name}`)];
  if (!fault || !control) return false;
  fault.textContent = messages.join(" ");
  fault.hidden = false;
  control.setAttribute("aria-invalid", "true");
  const group = control.closest("details");
  if (group) group.open = true;
  return true;
}

function complain(problem, isMild = false) {
  const box = $("problem");
  const fields = Object.entries(problem.errors ?? {});
  const homeless = fields.filter(([name, messages]) => !blame(name, messages));
  const told = [element("h3", problem.title)];
  if (problem.detail) told.push(element("p", problem.detail));
  if (homeless.length) {
    const list = element("ul");
    list.append(...homeless.map(([name, messages]) => element("li", `${name}: ${messages.join(" ")}`)));
    told.push(list);
  }
  const notes = element("p", "", { className: "about" });
  if (problem.status) notes.append(`Status ${problem.status}. `);
  if (problem.request_id) notes.append("Request id ", element("code", problem.request_id), ". ");
  if (/^\/problems\/[a-z-]+$/.test(problem.type ?? "")) {
    notes.append(element("a", "What this means", { href: problem.type.slice(1), target: "_blank", rel: "noopener" }));
  }
  told.push(notes);
  box.replaceChildren(...told);
  box.classList.toggle("mild", isMild);
  box.hidden = false;
}

function lookAtFault() {
  document.querySelector("[aria-invalid]")?.focus();
}

function countDown(until) {
  const line = $("retry");
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    line.textContent = left > 0 ? `Try again in ${left} s.` : "You can try again now.";
    if (left <= 0) clearInterval(ticking);
  };
  clearInterval(ticking);
  ticking = setInterval(tick, 1000);
  line.hidden = false;
  tick();
}

async function problemOf(answer) {
  const usual = { title: `The answer was ${answer.status}`, detail: answer.statusText, status: answer.status };
  if (!/json/.test(answer.headers.get("Content-Type") ?? "")) return usual;
  return { ...usual, ...(await answer.json()) };
}

async function fail(answer) {
  const problem = await problemOf(answer);
  const isOfKeys = answer.status === 401 || /\/(scope-missing|signature-\w+)$/.test(problem.type ?? "");
  if (isOfKeys) {
    $("access").hidden = false;
    page.dataset.closed = "true";
    blame("key", [key() ? problem.detail : "A key is needed here."]);
  }
  complain(problem);
  const wait = Number(answer.headers.get("Retry-After"));
  if (wait > 0) countDown(Date.now() + wait * 1000);
  say(`No picture: ${problem.title}.`);
}

// --- asking -----------------------------------------------------------------------------------

const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); });
  });

// Asked until there is a picture: 202 says that it is being made.
async function fetchPicture(path, headers, signal) {
  for (;;) {
    // The picture that others get, not one that this browser has kept; a key may be for requests from this page.
    const answer = await fetch(path, { headers, signal, cache: "no-store", credentials: "same-origin", referrerPolicy: "same-origin" });
    if (answer.status !== 202) return answer;
    await pause(1000 * (Number(answer.headers.get("Retry-After")) || 2), signal);
  }
}

function isKeyWritable() {
  if (/^[\x21-\x7e]*$/.test(key())) return true;
  blame("key", ["A key has letters, digits and signs only."]);
  $("key").focus();
  return false;
}

// `isLive`: because of a change, so that whoever made it is left where they are.
async function take({ isFresh = false, isLive = false } = {}) {
  clearTimeout(later);
  running?.abort();
  clearFaults();
  const given = asked();
  if (!isKeyWritable()) return;
  if (given.url) $("url").value = given.url;
  remember();
  describe();
  const state = query(given);
  const isUnkeyed = isSigned(state) && !isFresh;
  const path = `${page.dataset.thumb}?${isUnkeyed ? signed.query : state + (isFresh ? "&fresh=true" : "")}`;
  const controller = (running = new AbortController());
  const stopWatch = begin(controller);
  try {
    const answer = await fetchPicture(path, { Accept: ACCEPT, ...(isUnkeyed ? {} : keyHeaders()) }, controller.signal);
    const body = answer.ok ? await answer.blob() : null;
    if (running !== controller) return;
    if (body) await show(answer, given, stopWatch(), body, controller.signal);
    else {
      await fail(answer);
      if (!isLive) lookAtFault();
      $("stage").dataset.state = "failed";
      tell([]);
    }
  } catch (error) {
    if (running === controller) giveUp(error);
  } finally {
    if (running === controller) end();
  }
}

function giveUp(error) {
  $("stage").dataset.state = shown ? "shown" : "empty";
  if (error.name === "AbortError") return say("Stopped.");
  const isUndecodable = error.name === "EncodingError";
  complain(isUndecodable ? { title: "This browser cannot show the picture", detail: "Choose another format." }
    : { title: "The service does not answer", detail: "It may have been stopped, or the network is down." });
  say("No picture.");
}

function begin(controller) {
  const begun = performance.now();
  const passed = () => (performance.now() - begun) / 1000;
  $("stage").dataset.state = "busy";
  $("stage").setAttribute("aria-busy", "true");
  $("stop").hidden = false;
  say("Taking the picture…");
  const timer = setInterval(() => { $("elapsed").textContent = `${passed().toFixed(1)} s`; }, 100);
  const finish = () => { clearInterval(timer); $("elapsed").textContent = ""; };
  controller.signal.addEventListener("abort", finish);
  controller.finish = finish;
  return passed;
}

function end() {
  running.finish();
  running = null;
  $("stage").removeAttribute("aria-busy");
  $("stop").hidden = true;
  if ($("stage").dataset.state === "busy") $("stage").dataset.state = shown ? "shown" : "empty";
  describe();
}

async function sign() {
  clearFaults();
  const given = asked();
  if (!isKeyWritable()) return;
  const life = Number($("exp").value);
  const body = { path: "/thumb", ...typed(given), ...(life ? { exp: Math.floor(Date.now() / 1000) + life } : {}) };
  $("sign").disabled = true;
  try {
    const headers = { "Content-Type": "application/json", Accept: "application/json,application/problem+json", ...keyHeaders() };
    const answer = await fetch(page.dataset.sign, { method: "POST", headers, body: JSON.stringify(body), referrerPolicy: "same-origin" });
    if (!answer.ok) {
      await fail(answer);
      lookAtFault();
      return say("Not signed.");
    }
    const { url, exp } = await answer.json();
    signed = { state: query(given), url, query: url.slice(url.indexOf("?") + 1) };
    say(exp ? `Signed, good until ${new Date(exp * 1000).toLocaleString()}.` : "Signed, with no end.");
  } catch (error) {
    giveUp(error);
  } finally {
    $("sign").disabled = false;
    describe();
  }
}

// --- hands on ---------------------------------------------------------------------------------

async function copy(button) {
  const code = $(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch { // only pages by https or of this machine have a clipboard
    getSelection().selectAllChildren(code);
    document.execCommand("copy");
    getSelection().removeAllRanges();
  }
  button.textContent = "Copied";
  say(`Copied: ${$(`${code.id}-title`).textContent}.`);
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function changed(event) {
  clearTimeout(later);
  remember();
  describe();
  const given = asked();
  const isValid = options.filter((control) => RENDITION.has(control.name)).every((control) => control.validity.valid);
  if (shown === null || query(given) === shown.state) return;
  const isEntitled = page.dataset.closed === "false" || key();
  const isLive = RENDITION.has(event.target.name) && isValid && isEntitled && costsNoCapture(given);
  if (isLive) later = setTimeout(take, AT_ONCE_MS, { isLive });
  else if (!running) say("Changed since: take the picture again to see it.");
}

function keepKey() {
  try {
    if ($("keep").checked && key()) sessionStorage.setItem(KEY, key());
    else sessionStorage.removeItem(KEY);
  } catch { /* a browser that keeps nothing */ }
}

function recallKey() {
  try {
    $("key").value = sessionStorage.getItem(KEY) ?? "";
    $("keep").checked = Boolean(key());
  } catch { /* likewise */ }
}

$("ask").noValidate = true; // the service says itself what is wrong, in its own words
$("options").disabled = false;
$("ask").addEventListener("submit", (event) => { event.preventDefault(); take(); });
$("ask").addEventListener("input", changed);
$("options").addEventListener("input", changed);
$("key").addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
for (const id of ["key", "keep"]) $(id).addEventListener("input", keepKey);
$("retake").addEventListener("click", () => take({ isFresh: true }));
$("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("zoom").addEventListener("click", () => {
  $("zoom").setAttribute("aria-pressed", String($("stage").classList.toggle("actual")));
  reach();
});
$("sign")?.addEventListener("click", sign);
$("reset").addEventListener("click", () => {
  const url = $("url").value.trim();
  history.replaceState(null, "", url ? `#url=${encode(url)}` : location.pathname + location.search);
  clearFaults();
  restore();
});
for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", () => copy(button));
addEventListener("hashchange", restore);
recallKey();
restore();
