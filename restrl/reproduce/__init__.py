"""The published tables and figures made again: ``restrl reproduce``; see ``docs/reproduce.md``.

Arms (`restrl.reproduce.arms`) are training runs that differ in their method; experiments measure what they need of
them. What two experiments need is computed once (`restrl.reproduce.workspace`).
"""
