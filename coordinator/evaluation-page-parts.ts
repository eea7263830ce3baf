/** Style and behaviour of an evaluation's page: no font, script or picture from elsewhere. */

export const PAGE_STYLE = `
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5c6370; --line: #e1e4e8; --ground: #ffffff; --band: #f6f7f9;
  --mark: #1f6f5c; --faint: #cfe3dd; --bad: #a8432a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --soft: #9aa2ae; --line: #30353d; --ground: #16181c;
  --band: #1d2025; --mark: #63c2a8; --faint: #27443c; --bad: #e58a6f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; font-weight: 600; margin: 2.75rem 0 .6rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); column-gap: 3rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: .85rem; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
th:last-child, td:last-child { padding-right: 0; }
td.number, th.number { text-align: right; white-space: nowrap; } td.id { overflow-wrap: anywhere; }
svg { display: block; } .rail { stroke: var(--line); } .range { stroke: var(--mark); } .dot, .bar { fill: var(--mark); }
.bar.bad { fill: var(--bad); } .track { fill: var(--band); }
.tools { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; position: sticky; top: 0; z-index: 1; padding: .7rem 0;
  background: var(--ground); border-bottom: 1px solid var(--line); margin-top: 2.5rem; }
input, select { font: inherit; color: inherit; background: var(--band); border: 1px solid var(--line); border-radius: 6px;
  padding: .35rem .6rem; } input { flex: 1 1 14rem; min-width: 0; }
details { border-bottom: 1px solid var(--line); } summary { cursor: pointer; padding: .5rem 0; overflow-wrap: anywhere; }
summary .status { color: var(--bad); } details > div { padding: 0 0 1.2rem 1.1rem; }
h3 { font-size: .85rem; font-weight: 500; color: var(--soft); margin: .9rem 0 .25rem; }
pre { margin: 0; padding: .7rem .9rem; background: var(--band); border-radius: 6px; overflow: auto; max-height: 26rem;
  font: 13px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 0 1rem; }
[hidden] { display: none !important; }
`;

/** Shows what holds the words of the search field and the status chosen. */
export const PAGE_SCRIPT = `
"use strict";
const words = document.getElementById("words");
const status = document.getElementById("status");
const counted = document.getElementById("counted");
const items = [...document.querySelectorAll("[data-statuses]")].map((element) => ({
  element, statuses: element.dataset.statuses.split(" "), text: element.textContent.toLowerCase(),
}));
function filter() {
  const wanted = words.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const { element, statuses, text } of items) {
    const isShown = (status.value === "" || statuses.includes(status.value)) && wanted.every((word) => text.includes(word));
    element.hidden = !isShown;
    if (isShown) shown++;
  }
  counted.textContent = shown === items.length ? "" : shown + " of " + items.length + " lines";
}
words.addEventListener("input", filter);
status.addEventListener("change", filter);
filter();
`;
