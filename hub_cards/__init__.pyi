from .publishing import Publication as Publication
from .publishing import publish as publish
from .render import read_facts as read_facts
from .render import render_card as render_card
from .render import write_card as write_card
