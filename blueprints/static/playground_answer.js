// What came back, and what went wrong: told beside the picture, and at the fields that are at fault.

import { $, key, page } from "./playground_form.js";

const NONE = "–";
let ticking = 0; // the timer of a countdown

export function say(text) {
  $("status").textContent = text;
}

function element(name, text = "", attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.textContent = text;
  return made;
}

// --- what came back ---------------------------------------------------------------------------

export const seconds = (number) =>
  number < 0.9995 ? `${Math.round(number * 1000)} ms` : `${number.toFixed(number < 10 ? 2 : 1)} s`;

function span(number) {
  const [count, unit] = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]].find(([size]) => number >= size) ?? [1, "second"];
  const many = Math.round(number / count);
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

// What this answer was charged: a new capture, by X-Cache, and what is left by RateLimit, of the first limit where there are several.
function costOf(header) {
  const isTaken = header("X-Cache") === "MISS" && !/;\s*collapsed/.test(header("Cache-Status") ?? "");
  if (!isTaken) return "No new capture";
  const amount = /;q=(\d+)/.exec(header("RateLimit-Policy") ?? "")?.[1];
  const left = /;r=(\d+);t=(\d+)/.exec(header("RateLimit") ?? "");
  return amount && left ? `One new capture; ${left[1]} of ${amount} left for ${left[2]} s` : "One new capture";
}

// The page has a place for each of them from the start, so that nothing moves when they come.
export function tell(facts) {
  for (const place of $("facts").children) {
    const [name, told] = place.children;
    told.replaceChildren(facts[name.textContent] || NONE);
  }
}

export function tellOf(answer, body, size, tookSeconds) {
  const header = (name) => answer.headers.get(name);
  const said = header("X-Cache") ?? "";
  const age = Number(header("Age") ?? 0);
  const most = Number(/max-age=(\d+)/.exec(header("Cache-Control") ?? "")?.[1] ?? 0);
  const steps = [...(header("Server-Timing") ?? "").matchAll(/([\w-]+)[^,]*?;dur=([\d.]+)/g)];
  tell({
    "X-Cache": said && element("span", said, { className: `badge ${said.toLowerCase()}` }),
    Pixels: `${size.width.toLocaleString("en")} × ${size.height.toLocaleString("en")}`,
    Size: fact(roughly(body.size), body.size < 1000 ? "" : exactly(body.size)),
    "Content type": header("Content-Type"),
    "Time taken": seconds(tookSeconds),
    Age: fact(span(age), most > age ? `${span(most - age)} left` : ""),
    Cost: costOf(header),
    "Cache-Status": header("Cache-Status"),
    "Server-Timing": steps.map(([, name, dur]) => `${name} ${seconds(Number(dur) / 1000)}`).join(" · "),
    "Request id": header("X-Request-ID"),
  });
}

// --- what went wrong --------------------------------------------------------------------------

export function clearFaults() {
  clearInterval(ticking);
  for (const fault of document.querySelectorAll(".fault")) fault.hidden = true;
  for (const control of document.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  $("problem").hidden = $("retry").hidden = true;
}

// Put a message at its field; whether there is one.
export function blame(name, messages) {
  const [control, fault] = [$(name), $(`fault-${name}`)];
  if (!fault || !control) return false;
  fault.textContent = messages.join(" ");
  fault.hidden = false;
  control.setAttribute("aria-invalid", "true");
  const group = control.closest("details");
  if (group) group.open = true;
  return true;
}

// Where the field would be seen and its message not, both are scrolled into view.
export function lookAtFault() {
  const control = document.querySelector("[aria-invalid]");
  control?.focus({ preventScroll: true });
  for (const one of [$(`fault-${control?.id}`), control]) one?.scrollIntoView({ block: "nearest" });
}

export function complain(problem, isMild = false) {
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

// Tell of an answer that is no success; the title of its problem.
export async function explain(answer) {
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
  return problem.title;
}
