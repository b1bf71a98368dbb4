"""The look of the HTML report: one style sheet, light and dark, also for print. Colours stand here and nowhere else."""

CSS = """
:root{--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--page:#fff;--panel:#f6f8fa;--good:#1a7f37;--bad:#cf222e;--hold:#9a6700;--run:#0969da;
--tokens:#0969da;--tail:#8250df;--bias:#bc4c00;--self:#0e7c86;--goodwash:#1a7f3714;--badwash:#cf222e12}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--page:#0d1117;--panel:#151b23;--good:#3fb950;
--bad:#f85149;--hold:#d29922;--run:#4493f8;--tokens:#4493f8;--tail:#ab7df8;--bias:#f0883e;--self:#39c5cf;--goodwash:#3fb95018;
--badwash:#f8514918}}
*{box-sizing:border-box}
html{color-scheme:light dark}
body{margin:0;background:var(--page);color:var(--ink);font:14px/1.5 system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif}
main{max-width:1064px;margin:0 auto;padding:28px 32px 48px}
h1{font-size:21px;line-height:1.3;margin:0;font-weight:600}
h2{font-size:15px;margin:34px 0 8px;padding-bottom:5px;border-bottom:1px solid var(--line);font-weight:600}
p{margin:6px 0}
small,.soft{color:var(--soft)}
code{font:12px/1.4 ui-monospace,"DejaVu Sans Mono",monospace;
background:var(--panel);padding:1px 5px;border-radius:4px;overflow-wrap:anywhere}
.verdict{border:1px solid var(--line);border-left:6px solid var(--tone);border-radius:8px;padding:18px 22px;background:var(--panel)}
.verdict .word{display:inline-block;color:#fff;background:var(--tone);font-weight:700;letter-spacing:.06em;
border-radius:5px;padding:2px 12px;font-size:16px;margin-right:12px;vertical-align:1px}
@media (prefers-color-scheme:dark){.verdict .word{color:#0d1117}}
.Promote{--tone:var(--good)}.Block{--tone:var(--bad)}.Inconclusive{--tone:var(--hold)}.Running{--tone:var(--run)}
.verdict .lead{font-size:16px;margin:12px 0 0;overflow-wrap:anywhere}
.verdict .why{color:var(--soft);margin:6px 0 0;overflow-wrap:anywhere}.verdict .why b{color:var(--ink)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(164px,1fr));gap:10px 18px;margin:16px 0 0}
.figures div{border-top:1px solid var(--line);padding-top:7px}
.figures b{display:block;font-size:18px;font-weight:600;line-height:1.3}
.figures span{color:var(--soft);font-size:12px}
.gates{display:grid;grid-template-columns:repeat(auto-fit,minmax(225px,1fr));gap:8px;margin:0;padding:0;list-style:none}
.gates li{border:1px solid var(--line);border-radius:6px;padding:8px 12px;font-size:12.5px;color:var(--soft);line-height:1.4}
.gates b{color:var(--ink);font-size:13.5px}
.chip{float:right;font-weight:600;font-size:12px;color:var(--tone)}
.Pass{--tone:var(--good)}.Fail{--tone:var(--bad)}.Open{--tone:var(--hold)}.NotRun{--tone:var(--soft)}
li.Fail{border-color:var(--bad);background:var(--badwash)}
table{border-collapse:collapse;width:100%;font-size:12.5px;font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:500;text-align:left;border-bottom:1px solid var(--line);padding:4px 10px 4px 0;white-space:nowrap}
td{border-bottom:1px solid var(--line);padding:4px 10px 4px 0;vertical-align:top;overflow-wrap:anywhere}
tr:last-child td{border-bottom:0}
.r{text-align:right}
td.Fail,td.Pass,td.Open{color:var(--tone);font-weight:600}
td.bad{color:var(--bad);font-weight:600}
.two{display:grid;grid-template-columns:1fr 1fr;gap:4px 34px}
@media (max-width:760px){.two{grid-template-columns:1fr}main{padding:16px}}
ul{margin:6px 0;padding-left:20px}li{margin:3px 0}
details{margin:8px 0}summary{cursor:pointer;color:var(--soft);font-size:13px}
.bar{display:block;height:8px;border-radius:4px;background:var(--bad)}
.track{display:inline-block;vertical-align:1px;overflow:hidden;width:90px;height:8px;border-radius:4px;background:var(--line);margin-right:8px}
pre{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:8px 12px;
font:12px/1.45 ui-monospace,"DejaVu Sans Mono",monospace;
white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0}
svg{width:100%;height:auto;display:block;font-size:12px}
svg text{fill:var(--ink)}
svg .tick,svg .axis,svg .hint,svg .dim{fill:var(--soft)}svg .tick{font-size:11px}svg .hint{font-size:11.5px}
svg .hint,svg .end,svg .value{paint-order:stroke;stroke:var(--page);stroke-width:3px;stroke-linejoin:round}
svg .title{font-weight:600;font-size:13px}svg .label{font-size:12.5px}svg .value{font-size:12.5px}
svg .value.bad{fill:var(--bad);font-weight:600}
.frame{fill:none;stroke:var(--line)}.grid{stroke:var(--line);stroke-width:.6}
.won{fill:var(--goodwash)}.lost,.beyond{fill:var(--badwash)}
.limit{stroke-width:1.4;stroke-dasharray:5 3}.limit.good{stroke:var(--good)}.limit.bad,.boundary{stroke:var(--bad)}
.boundary{stroke-width:2}.one{stroke:var(--soft);stroke-dasharray:2 3}
.curve{fill:none;stroke-width:1.3;stroke-opacity:.75;stroke:var(--soft)}.lead{stroke:var(--line);stroke-width:.8}.mark{fill:var(--soft)}
svg .end{font-size:11.5px}
.curve.Tokens{stroke:var(--tokens)}.curve.Tail{stroke:var(--tail);stroke-width:2}.curve.Bias{stroke:var(--bias)}.curve.SelfConsistency{stroke:var(--self)}
.mark.Tokens,svg .end.Tokens{fill:var(--tokens)}.mark.Tail,svg .end.Tail{fill:var(--tail)}.mark.Bias,svg .end.Bias{fill:var(--bias)}
.mark.SelfConsistency,svg .end.SelfConsistency{fill:var(--self)}
.whisker{stroke-width:2}.whisker.fine{stroke:var(--tokens)}.whisker.bad{stroke:var(--bad)}
.point.fine{fill:var(--tokens)}.point.bad,.prompt.bad{fill:var(--bad)}.prompt.fine{fill:var(--tokens);fill-opacity:.55}
svg .cross{fill:var(--bad);font-weight:700}
footer{margin-top:34px;color:var(--soft);font-size:12.5px;border-top:1px solid var(--line);padding-top:10px}
@media print{main{max-width:none;padding:0}h2{break-after:avoid}svg,table,.verdict{break-inside:avoid}details{display:block}}
"""
