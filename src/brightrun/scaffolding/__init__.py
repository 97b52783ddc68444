"""Scaffolding: who asks (personas), how it feels (emotional arcs), about what (topics), in which words (templates).

A **pack** is the scaffolding of one trade: a folder of YAML that a person can export, edit and import. Everything that
belongs to a trade stands in its pack, the consultant and the safety rules included; no code here knows finance.

All but the tables, services, routes and pages here is pure: no database, no web.
"""
