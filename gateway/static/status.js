// Every two seconds the part that changes is asked for again; rates are differences of two parts.
// A guarded platform sends the page without its part: the script then asks for an API key, which it
// keeps for this tab and sends as any client does.
"use strict";
const REFRESH_MS = 2000;
const part = document.getElementById("part");
const live = document.getElementById("live");
const form = document.getElementById("key");
const STORED_KEY = "fusebox-key";

function say(text, isBad) {
  live.textContent = text;
  live.classList.toggle("bad", isBad);
}

function headers() {
  const key = sessionStorage.getItem(STORED_KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

function askForKey() {
  sessionStorage.removeItem(STORED_KEY);
  part.replaceChildren();
  last = null;
  form.hidden = false;
  say("an API key is needed", true);
}

if (form)
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const token = document.getElementById("token");
    sessionStorage.setItem(STORED_KEY, token.value.trim());
    token.value = "";
    form.hidden = true;
    refresh();
  });

function counters() {
  const tiles = part.querySelector("[data-at]");
  if (!tiles) return null;
  const values = {};
  for (const cell of part.querySelectorAll("[data-rate]"))
    values[cell.dataset.rate] = Number(cell.dataset.value);
  return { at: Number(tiles.dataset.at), values };
}

function showRates(before, now) {
  const passed = now.at - before.at;
  if (passed <= 0) return;
  for (const cell of part.querySelectorAll("[data-rate]")) {
    const was = before.values[cell.dataset.rate];
    if (was === undefined) continue;
    const rate = Math.max(0, now.values[cell.dataset.rate] - was) / passed;
    const text = rate >= 100 ? rate.toFixed(0) : rate.toFixed(1);
    cell.textContent = cell.tagName === "TD" ? text : `${text}/s`;
  }
}

let last = counters();
async function refresh() {
  try {
    const answer = await fetch("/?part", { cache: "no-store", headers: headers() });
    if (answer.status === 401 && form) return askForKey();
    if (answer.status === 429) {
      say("this key's rate is used up", true);
    } else {
      part.innerHTML = await answer.text();
      const now = counters();
      if (last && now) showRates(last, now);
      last = now;
      say("live", false);
    }
  } catch {
    say("the gateway does not answer", true);
  }
  setTimeout(refresh, REFRESH_MS);
}
if (form) refresh();
else setTimeout(refresh, REFRESH_MS);
