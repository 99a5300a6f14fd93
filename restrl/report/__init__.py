"""The report of a run: tables, figures and one self-contained HTML page.

`restrl.report.data` holds the plain data, `restrl.report.tables` the text tables; `restrl.report.write` imports
matplotlib and is loaded only where a report is written.
"""
