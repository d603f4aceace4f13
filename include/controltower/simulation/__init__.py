"""A shop whose truth is known.

`shop.generate` makes the contract's tables of an invented Korean shop, "하루상점 Haru", and keeps beside them what no
real shop can know: each customer's taste, hour, price sense and the day on which they quietly leave. Later rooms are
judged against that truth.

How its customers live, a day at a time:

- Now and then an *episode* begins: for some days a person wants something of one category (or what has run out:
  nappies, coffee, cream), visits more often, looks at it again and again, puts it into the cart, and perhaps buys.
  Else they only look in casually. So recent views and carts say who will buy soon, and past orders say what.
- What they look at follows their taste over categories, a hidden style shared by brands (what collaborative filtering
  finds), price sense, sales and popularity. Baskets hold companions: wipes with nappies, biscuits with coffee.
- Each has an hour of the day, a liking for weekends, a channel, and a day on which interest starts to fade.

Every number is in `parameters.yaml`. All draws of a day come from a generator seeded by (seed, that day), and those of
a customer from (seed, their block), so that moving `until` one day on only adds rows.

    parameters.py   the numbers, validated          catalogue.py  products, prices, sales, collections
    people.py       who the customers are           behaviour.py  one day: episodes, visits, decisions
    browsing.py     one day: views, carts, events   baskets.py    one day: orders, lines, cancellations, returns
    names.py        words for names and brands      tables.py     arrays to the contract's columns
    registers.py    customers, consents, devices    world.py      what a day works on
    shop.py         the days in a row, the files

How its customers answer messages is decided from that truth; the sandbox carries it out (`sandbox/answers.py`):

    truth.py        a home's shop as answers see it  answers.py    one message: opened, clicked, left, bought
    purchases.py    the rows that this adds to the shop's data, and the truth of each message
"""
