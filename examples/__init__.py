"""Applications written with the public API only: ``python -m examples.demo`` runs the first two.

checkout_finalize/  confirm a booking, charge a card, issue an invoice, tell the customer: an unsafe step and its ``verify``
flight_disruption/  12,098 real flights, a partner's outage in the middle, and the repair
demo.py             both, behind the desk
contract_app.py     what black-box suites of the admin API are run against
ledger.py           what the fake outside world of the first two saw
"""
