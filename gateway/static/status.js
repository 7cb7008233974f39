// Every two seconds the part that changes is asked for again; rates are differences of two parts.
"use strict";
const REFRESH_MS = 2000;
const part = document.getElementById("part");
const live = document.getElementById("live");

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
    const answer = await fetch("/?part", { cache: "no-store" });
    part.innerHTML = await answer.text();
    const now = counters();
    if (last && now) showRates(last, now);
    last = now;
    live.textContent = "live";
    live.classList.remove("bad");
  } catch {
    live.textContent = "the gateway does not answer";
    live.classList.add("bad");
  }
  setTimeout(refresh, REFRESH_MS);
}
setTimeout(refresh, REFRESH_MS);
