"""The style sheet of the report page; its colours are variables that `restrl.report.page` defines from the theme."""

from __future__ import annotations

CSS = """
:root{color-scheme:light dark}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1120px;margin:0 auto;padding:clamp(20px,5vw,56px) clamp(14px,4vw,32px) 64px}
header{margin-bottom:28px}
h1{font-size:clamp(1.6rem,5vw,2.3rem);line-height:1.15;letter-spacing:-.02em;margin:.1em 0 .4em;text-wrap:balance}
h2{font-size:1.2rem;letter-spacing:-.01em;margin:2.2em 0 .8em}
h3{font-size:1rem;margin:0 0 .6em}
.kicker{margin:0;color:var(--muted);font-size:.8rem;letter-spacing:.08em;text-transform:uppercase}
.lead{font-size:clamp(1.05rem,2.6vw,1.25rem);max-width:44em;margin:0;text-wrap:pretty}
.note,figcaption{color:var(--muted);font-size:.875rem;line-height:1.5;max-width:60em}
.notes{margin:1em 0 0;padding:.7em 1em .7em 2em;border-left:3px solid var(--orange);background:var(--surface);
 border-radius:0 10px 10px 0;font-size:.925rem}
.scroll{overflow-x:auto;background:var(--surface);border:1px solid var(--line);border-radius:12px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.6em .75em;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child>*{border-bottom:0}
thead th{color:var(--muted);font-weight:500;font-size:.8rem}
th:first-child{position:sticky;left:0;background:var(--surface)}
tbody th{font-weight:600}
.number{text-align:right}
.dot{display:inline-block;width:.62em;height:.62em;border-radius:50%;margin-right:.55em}
.ci{color:var(--muted);font-size:.86em}
.up{color:var(--green)}.down{color:var(--orange)}.flat{color:var(--muted)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));gap:18px;margin-top:18px;
 align-items:start}
figure,.example{margin:0;padding:18px;background:var(--surface);border:1px solid var(--line);border-radius:12px;
 min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:560px;margin:0 auto;overflow:visible}
figure svg text{font-family:inherit!important}
figcaption{margin-top:.8em}
.example p{margin:.3em 0}
.meta{color:var(--muted);font-size:.85rem}
pre{overflow-x:auto;margin:.8em 0 0;padding:12px 14px;background:var(--page);border-radius:8px;font-size:.82rem;
 line-height:1.5;tab-size:4}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.bars{list-style:none;margin:0;padding:14px 18px;
 background:var(--surface);border:1px solid var(--line);border-radius:12px}
.bars li{display:grid;grid-template-columns:minmax(6em,1.2fr) 3fr minmax(6.2em,auto);gap:12px;align-items:center;
 padding:.25em 0;font-size:.925rem;font-variant-numeric:tabular-nums}
.bars li>span:last-child{text-align:right;color:var(--muted)}
.bars i{display:block;height:.7em}
.bars b{display:block;height:100%;min-width:2px;background:var(--blue);border-radius:0 4px 4px 0}
dl{display:grid;grid-template-columns:minmax(7em,auto) 1fr;gap:.3em 1.2em;margin:0;font-size:.925rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
details{margin-top:1.6em}
summary{cursor:pointer;font-size:1.2rem;font-weight:700;letter-spacing:-.01em}
details pre{background:var(--surface);border:1px solid var(--line)}
:focus-visible{outline:2px solid var(--blue);outline-offset:2px}
@media (max-width:560px){figure,.example{padding:14px 12px}th,td{padding:.55em .7em}}
@media print{body{background:none}figure,.example,tr{break-inside:avoid}}
"""
