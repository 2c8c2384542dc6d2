// The playground: asks for pictures as any program does, shows what comes back, and says how to ask for the same.

import { blame, clearFaults, complain, explain, lookAtFault, say, seconds, tell, tellOf } from "./playground_answer.js";
import {
  $, asked, encode, foldUp, isOfRendition, isOneCapture, keepKey, key, keyHeaders, options, page, query, recallKey, remember, restore,
  typed,
} from "./playground_form.js";
import { denser, describe, hostOf } from "./playground_snippets.js";

// As browsers ask for pictures; and what went wrong is wanted in words.
const ACCEPT = "image/avif,image/webp,image/*;q=0.9,application/problem+json";
const AT_ONCE_MS = 500;

let running = null; // the AbortController of the request under way
let shown = null; // the picture on the page: what was asked for, its size, its object URL
let signed = null; // a signed address, and what it is for
let later = 0; // the timer of a request that a change will cause

const describeAll = () => describe({ shown, signed });
const stand = (state) => { $("stage").dataset.state = state; };

// --- a picture --------------------------------------------------------------------------------

// What is larger than its frame can be scrolled by keyboard as well.
function reach() {
  const { scrollHeight, clientHeight, scrollWidth, clientWidth } = $("stage");
  $("stage").tabIndex = scrollHeight > clientHeight || scrollWidth > clientWidth ? 0 : -1;
}

async function show(answer, given, tookSeconds, body, signal) {
  const url = URL.createObjectURL(body);
  const decoded = Object.assign(new Image(), { src: url });
  try {
    await decoded.decode();
    signal.throwIfAborted();
  } catch (error) {
    URL.revokeObjectURL(url);
    throw error;
  }
  decoded.id = "picture";
  decoded.alt = `Picture of ${hostOf(given.url)}`;
  if (shown) $("picture").replaceWith(decoded);
  else $("stage").append(decoded);
  if (shown) URL.revokeObjectURL(shown.object);
  shown = { asked: given, state: query(given), width: decoded.naturalWidth, height: decoded.naturalHeight, object: url };
  $("save").href = url;
  $("save").download = `${hostOf(given.url)}.${body.type.replace("image/", "").replace("jpeg", "jpg")}`;
  for (const id of ["save", "zoom", "retake"]) $(id).hidden = false;
  stand("shown");
  reach();
  tellOf(answer, body, shown, tookSeconds);
  const trouble = answer.headers.get("X-Problem");
  if (trouble) complain({ title: "An old picture, because a new one could not be taken", type: `/problems/${trouble}` }, true);
  const sources = { HIT: "From the cache", STALE: trouble ? "An old one" : "The old one, while a new one is taken behind it" };
  say(`${sources[answer.headers.get("X-Cache")] ?? "Taken"}: ${shown.width} × ${shown.height}, in ${seconds(tookSeconds)}.`);
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
  remember(given);
  describeAll();
  const state = query(given);
  const isUnkeyed = signed?.state === state && !isFresh;
  const path = `${page.dataset.thumb}?${isUnkeyed ? signed.query : state + (isFresh ? "&fresh=true" : "")}`;
  const controller = (running = new AbortController());
  const stopWatch = begin(controller);
  try {
    const answer = await fetchPicture(path, { Accept: ACCEPT, ...(isUnkeyed ? {} : keyHeaders()) }, controller.signal);
    const body = answer.ok ? await answer.blob() : null;
    if (running !== controller) return;
    if (body) await show(answer, given, stopWatch(), body, controller.signal);
    else {
      say(`No picture: ${await explain(answer)}.`);
      stand("failed");
      tell({});
      if (!isLive) lookAtFault();
    }
  } catch (error) {
    if (running === controller) giveUp(error);
  } finally {
    if (running === controller) end();
  }
}

const complainOfSilence = () =>
  complain({ title: "The service does not answer", detail: "It may have been stopped, or the network is down." });

function giveUp(error) {
  const isStopped = error.name === "AbortError";
  stand(!isStopped ? "failed" : shown ? "shown" : "empty");
  if (isStopped) return say("Stopped.");
  if (error.name === "EncodingError") complain({ title: "This browser cannot show the picture", detail: "Choose another format." });
  else complainOfSilence();
  tell({});
  say("No picture.");
}

function begin(controller) {
  const begun = performance.now();
  const passed = () => (performance.now() - begun) / 1000;
  stand("busy");
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
  if (document.activeElement === $("stop")) $("take").focus(); // what is hidden cannot keep the focus
  $("stop").hidden = true;
  describeAll();
}

function askForSignature(given) {
  const headers = { "Content-Type": "application/json", Accept: "application/json,application/problem+json", ...keyHeaders() };
  const body = JSON.stringify({ path: "/thumb", ...given });
  return fetch(page.dataset.sign, { method: "POST", headers, body, referrerPolicy: "same-origin" });
}

async function sign() {
  clearFaults();
  const given = asked();
  if (!isKeyWritable()) return;
  const life = Number($("exp").value);
  const end = life ? { exp: Math.floor(Date.now() / 1000) + life } : {};
  const dense = denser(given);
  $("sign").disabled = true;
  try {
    const answers = await Promise.all([given, ...(dense ? [dense] : [])].map((one) => askForSignature({ ...typed(one), ...end })));
    const refused = answers.find((answer) => !answer.ok);
    if (refused) {
      await explain(refused);
      lookAtFault();
      return say("Not signed.");
    }
    const [{ url, exp }, denseOne] = await Promise.all(answers.map((answer) => answer.json()));
    signed = { state: query(given), url, denseUrl: denseOne?.url, query: url.slice(url.indexOf("?") + 1) };
    say(exp ? `Signed, good until ${new Date(exp * 1000).toLocaleString()}.` : "Signed, with no end.");
  } catch {
    complainOfSilence();
    say("Not signed.");
  } finally {
    $("sign").disabled = false;
    describeAll();
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

const isEntitled = () => page.dataset.closed === "false" || Boolean(key());

function changed(event) {
  clearTimeout(later);
  remember();
  describeAll();
  const given = asked();
  const isValid = options.filter((control) => isOfRendition(control.name)).every((control) => control.validity.valid);
  if (shown === null || query(given) === shown.state) return;
  const isLive = isOfRendition(event.target.name) && isValid && isEntitled() && isOneCapture(given, shown.asked);
  if (isLive) later = setTimeout(take, AT_ONCE_MS, { isLive });
  else if (!running) say("Changed since: take the picture again to see it.");
}

function refill() {
  restore();
  describeAll();
}

// The address as it is, and no options but these, as a query has them.
function fillWith(chosen) {
  const url = $("url").value.trim();
  const state = [...(url ? [`url=${encode(url)}`] : []), ...(chosen ? [chosen] : [])].join("&");
  history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  clearFaults();
  refill();
}

function start(button) {
  fillWith(button.dataset.start);
  if (!$("url").value.trim()) $("url").focus();
  else if (isEntitled()) take();
}

$("ask").noValidate = true; // the service says itself what is wrong, in its own words
$("options").disabled = false;
$("ask").addEventListener("submit", (event) => { event.preventDefault(); take(); });
$("ask").addEventListener("input", changed);
$("options").addEventListener("input", changed);
$("key").addEventListener("keydown", (event) => { if (event.key === "Enter") take(); });
for (const id of ["key", "keep"]) $(id).addEventListener("input", keepKey);
$("skip").addEventListener("click", (event) => { event.preventDefault(); $("url").focus(); }); // the fragment is for the settings
$("retake").addEventListener("click", () => take({ isFresh: true }));
$("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") running?.abort(); });
$("zoom").addEventListener("click", () => {
  $("zoom").setAttribute("aria-pressed", String($("stage").classList.toggle("actual")));
  reach();
});
$("sign")?.addEventListener("click", sign);
$("reset").addEventListener("click", () => fillWith(""));
for (const button of document.querySelectorAll("[data-start]")) button.addEventListener("click", () => start(button));
$("exp")?.addEventListener("input", describeAll);
for (const button of document.querySelectorAll("[data-copies]")) button.addEventListener("click", () => copy(button));
addEventListener("hashchange", refill);
foldUp();
recallKey();
refill();
