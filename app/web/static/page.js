// Read, write, like and report notes. Works with the page and the API of the releases next to this one:
// it takes what it finds, and leaves alone what is missing. It is one file for the same reason.

const PAGE_SIZE = 20;
const SEEN_MILLISECONDS = 1000;
const SAID_MILLISECONDS = 6000;
const REFRESH_MILLISECONDS = 15000;
const YEAR_SECONDS = 31536000;
const FEW_CHARACTERS = 500;
const UNITS = [["day", 86400, 2], ["hour", 3600, 1], ["minute", 60, 1]];

const find = (id) => document.getElementById(id);
const words = find("words")?.dataset ?? {};
const list = find("list");
const more = find("more");
const language = document.documentElement.lang;
const fullTime = new Intl.DateTimeFormat(language, { dateStyle: "long", timeStyle: "short" });
const awayTime = new Intl.RelativeTimeFormat(language, { style: "short" });

let silence;
function say(text, { brief = false } = {}) {
  clearTimeout(silence);
  find("status").textContent = text ?? "";
  if (brief) silence = setTimeout(say, SAID_MILLISECONDS);
}

function tell(text) {
  (find("state") ?? find("status")).textContent = text ?? "";
}

// Storage may be forbidden; then everything works, and is only forgotten.
const memory = {
  has(key) { try { return sessionStorage.getItem(key) !== null; } catch { return false; } },
  keep(key) { try { sessionStorage.setItem(key, "1"); } catch { /* forgotten */ } },
};

function rememberVisitor() {
  if (/(^|; )fp=/.test(document.cookie)) return;
  const random = crypto.getRandomValues(new Uint8Array(16));
  const name = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `fp=${name}; Max-Age=${YEAR_SECONDS}; Path=/; SameSite=Lax${secure}`;
}

async function call(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const answer = await fetch(path, { ...options, credentials: "same-origin" });
  if (answer.ok) return answer.json();
  const { error } = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(String(answer.status)), {
    status: answer.status,
    code: error,
    seconds: answer.headers.get("Retry-After"),
  });
}

function reason({ status, code, seconds }) {
  if (status === undefined) return words.offline ?? words.busy;
  if (code === "read_only") return words.readOnly ?? words.busy;
  if (status === 429 && seconds) return words.slowFor?.replace("{seconds}", seconds) ?? words.slow;
  return { 400: words.refused, 404: words.gone, 413: words.refused, 429: words.slow }[status] ?? words.busy;
}

async function once(button, action) {
  button.setAttribute("aria-disabled", "true");
  try {
    await action();
  } catch (error) {
    say(reason(error));
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function onPress(button, action) {
  button?.addEventListener("click", () => {
    if (button.hasAttribute("aria-disabled")) return;
    say("");
    once(button, action);
  });
}

const asDate = (naiveUtc) => new Date(`${naiveUtc}Z`);

function away(date) {
  const seconds = (date - Date.now()) / 1000;
  const unit = UNITS.find(([, size, from]) => Math.abs(seconds) >= size * from);
  return unit ? awayTime.format(Math.round(seconds / unit[1]), unit[0]) : words.now ?? fullTime.format(date);
}

function showTimes(item) {
  const { timestamp, expiresAt } = item.dataset;
  item.querySelector("time").textContent = away(asDate(timestamp));
  if (!expiresAt) return;
  const [born, ends] = [asDate(timestamp), asDate(expiresAt)];
  const isPast = ends <= Date.now();
  const expiry = item.querySelector(".expiry");
  expiry.textContent = isPast && words.expired ? words.expired : `${words.expires} ${away(ends)}`;
  expiry.title = fullTime.format(ends);
  item.querySelector(".life")?.setAttribute("value", Math.max(0, (ends - Date.now()) / (ends - born)));
  item.classList.toggle("past", isPast);
}

function showCount(item, selector, count) {
  const place = item.querySelector(selector);
  if (!place || place.textContent === String(count)) return;
  place.textContent = count;
  place.classList.remove("rose");
  requestAnimationFrame(() => place.classList.add("rose"));
}

async function countView(item) {
  const { id } = item.dataset;
  const key = `viewed:${id}:${new Date().toISOString().slice(0, 10)}`;
  if (memory.has(key)) return;
  try {
    const { views } = await call(`/api/notes/${id}/view`, {});
    memory.keep(key);
    showCount(item, ".views", views);
  } catch {
    // A view that was not counted is nobody's concern but ours.
  }
}

const timers = new WeakMap();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    clearTimeout(timers.get(target));
    if (!isIntersecting) continue;
    timers.set(target, setTimeout(() => {
      watcher.unobserve(target);
      countView(target);
    }, SEEN_MILLISECONDS));
  }
}, { rootMargin: "-10% 0px" });

function askWhy() {
  const dialog = find("ask");
  if (!dialog?.showModal) return Promise.resolve(confirm(words.reportQuestion) ? "" : null);
  const why = find("reason");
  why.value = dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const done = () => resolve(dialog.returnValue === "report" ? why.value : null);
    dialog.addEventListener("close", done, { once: true });
  });
}

function leave(item) {
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  (next?.querySelector("a") ?? find("notes")).focus();
}

function render(note) {
  const item = find("note").content.firstElementChild.cloneNode(true);
  const part = (selector) => item.querySelector(selector);
  item.dataset.id = note.id;
  item.dataset.timestamp = note.timestamp;
  item.dataset.expiresAt = note.expires_at ?? "";
  part(".text").textContent = note.text;
  part(".permalink").href = `/?id=${note.id}`;
  part("time").dateTime = `${note.timestamp}Z`;
  part("time").title = fullTime.format(asDate(note.timestamp));
  part(".views").textContent = note.views;
  part(".likes").textContent = note.likes;
  showTimes(item);
  const liked = `liked:${note.id}`;
  part(".like").setAttribute("aria-pressed", String(memory.has(liked)));
  onPress(part(".like"), async () => {
    const { likes } = await call(`/api/notes/${note.id}/like`, {});
    memory.keep(liked);
    showCount(item, ".likes", likes);
    part(".like").setAttribute("aria-pressed", "true");
    say(words.liked, { brief: true });
  });
  const share = part(".share");
  if (share) share.hidden = !(navigator.share || navigator.clipboard);
  onPress(share, async () => {
    const url = new URL(`/?id=${note.id}`, location.href).href;
    if (navigator.share) return navigator.share({ url }).catch(() => {});
    await navigator.clipboard.writeText(url);
    say(words.copied, { brief: true });
  });
  onPress(part(".report"), async () => {
    const why = await askWhy();
    if (why === null) return;
    const { removed } = await call(`/api/notes/${note.id}/report`, { reason: why });
    say(words.reported, { brief: true });
    if (removed) leave(item);
  });
  watcher.observe(item);
  return item;
}

async function loadPage() {
  const { beforeId } = more.dataset;
  const from = beforeId ? `&before_id=${beforeId}` : "";
  if (!beforeId) tell(words.loading);
  const found = await call(`/api/notes?wrap=1&active_only=1&limit=${PAGE_SIZE}${from}`);
  const [first, ...others] = found.items.map(render);
  if (first) list.append(first, ...others);
  // A button that is about to vanish must not take the keyboard's place on the page with it.
  if (document.activeElement === more) first?.querySelector("a").focus();
  more.hidden = !found.has_more;
  more.dataset.beforeId = found.next_before_id ?? "";
  if (!list.children.length) tell(words.empty);
  else tell(found.has_more || !beforeId ? "" : words.end);
}

// The button stays for the keyboard, and for trying again by hand after something went wrong.
const endless = new IntersectionObserver((entries) => {
  if (entries.at(-1).isIntersecting && !more.hasAttribute("aria-disabled")) once(more, loadMore);
}, { rootMargin: "0px 0px 600px" });

async function loadMore() {
  endless.unobserve(more);
  await loadPage();
  // Not before the new notes have their place: the next page would come at once.
  requestAnimationFrame(() => endless.observe(more));
}

async function loadOne(id) {
  find("all").hidden = false;
  const item = render(await call(`/api/notes/${id}`));
  list.append(item);
  setInterval(() => refresh(item), REFRESH_MILLISECONDS);
}

async function refresh(item) {
  if (document.hidden || item.classList.contains("past")) return;
  try {
    const note = await call(`/api/notes/${item.dataset.id}`);
    showCount(item, ".views", note.views);
    showCount(item, ".likes", note.likes);
  } catch {
    // What is shown was true a moment ago, and is worth more than a message about it.
  }
}

const form = find("write");
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter ?? form.querySelector("button");
  if (button.hasAttribute("aria-disabled")) return;
  say("");
  once(button, async () => {
    const note = await call("/api/notes", Object.fromEntries(new FormData(form)));
    list.prepend(render(note));
    tell("");
    form.reset();
    showLeft();
    say(words.published, { brief: true });
  });
});

const text = find("text");
function showLeft() {
  const count = text.maxLength - text.value.length;
  const left = find("left");
  if (left) left.textContent = count < FEW_CHARACTERS ? words.left?.replace("{count}", count) ?? "" : "";
}
text.addEventListener("input", showLeft);
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

find("cancel")?.addEventListener("click", () => find("ask").close(""));
onPress(more, loadMore);
setInterval(() => { for (const item of list.children) showTimes(item); }, REFRESH_MILLISECONDS);

// Old links to a note: /#n-12
function followOldLink() {
  const id = location.hash.match(/^#n-([0-9]+)$/)?.[1];
  if (id) location.replace(`/?id=${id}`);
  return Boolean(id);
}
addEventListener("hashchange", followOldLink);

async function start() {
  if (followOldLink()) return;
  const asked = new URLSearchParams(location.search);
  const wanted = asked.get("id") ?? asked.get("note");
  try {
    await (/^[0-9]+$/.test(wanted ?? "") ? loadOne(wanted) : loadMore());
  } catch (error) {
    tell(reason(error));
    // To try again by hand; without a place to start from it is the newest page.
    more.hidden = Boolean(wanted);
  }
}

rememberVisitor();
start();
