"""Layouts of expression files: one module a program or place that writes them, found by being in this folder.

A format has ``NAME``, ``recognises(sheet) -> bool``, which goes by the header and a few rows, and ``layout(sheet)``, which
says what the columns are, or refuses the file in one sentence. What no format recognises is a plain table, see
:mod:`..matrix`.
"""
