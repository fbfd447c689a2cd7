"""Style of the audit page: light and dark, for wide and narrow windows."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --ink: #1b2430; --soft: #5a6675; --line: #dce1e8;
  --flag: #8a4b00; --flagged: #fff1dc; --bar: #3b6fb6; --rail: #e3e8ef; }
@media (prefers-color-scheme: dark) { :root { --back: #14181e; --card: #1d232b; --ink: #e6eaf0; --soft: #9aa7b6;
  --line: #323b47; --flag: #ffc173; --flagged: #3a2a12; --bar: #7fb0f0; --rail: #2c3541; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 24px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 8px; }
h3 { font-size: 16px; margin: 22px 0 8px; }
p { margin: 6px 0; max-width: 76ch; }
.soft { color: var(--soft); }
code { overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px; margin: 16px 0; }
.tile {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px;
  flex: 1 1 130px;
}
.tile b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 12px; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px;
  min-width: 0;
}
.card.look { border-color: var(--flag); }
.head { display: flex; flex-wrap: wrap; gap: 6px 8px; align-items: baseline; }
.head b { margin-right: auto; }
.flag {
  background: var(--flagged); color: var(--flag); border-radius: 4px; padding: 0 7px; font-size: 13px;
  white-space: nowrap;
}
dl { display: grid; grid-template-columns: auto auto; gap: 0 12px; margin: 8px 0; font-size: 14px; }
dt { color: var(--soft); }
dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
.rail { background: var(--rail); border-radius: 3px; height: 6px; overflow: hidden; margin: 2px 0 8px; }
.rail i { display: block; height: 100%; background: var(--bar); }
ol { margin: 6px 0 0; padding-left: 22px; font-size: 14px; }
li { overflow-wrap: anywhere; margin-bottom: 3px; white-space: pre-wrap; }
table { border-collapse: collapse; width: 100%; background: var(--card); font-size: 14px; }
th, td {
  border: 1px solid var(--line); padding: 6px 9px; text-align: left; vertical-align: top;
  overflow-wrap: anywhere;
}
th { color: var(--soft); font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.text { white-space: pre-wrap; }
.texts { table-layout: fixed; }
.texts th.text { width: 48%; }
.texts th.number { width: 9%; }
details { margin: 10px 0; }
summary { cursor: pointer; padding: 6px 0; overflow-wrap: anywhere; }
nav a { color: inherit; margin-right: 12px; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 16px 12px 40px; }
  table.wide, .wide tbody, .wide tr, .wide td { display: block; width: 100%; }
  .wide thead { display: none; }
  .wide tr { border: 1px solid var(--line); margin-bottom: 10px; padding: 4px 0; border-radius: 6px; }
  .wide td { border: 0; padding: 2px 9px; min-width: 0; }
  .wide td::before { content: attr(data-name); color: var(--soft); font-size: 12px; }
  .wide td.number { display: flex; justify-content: space-between; }
  .wide td:not(.number)::before { display: block; }
}
"""
