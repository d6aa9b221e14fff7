from .components import load_components as load_components
from .negatives import Negative as Negative
from .negatives import NegativeGenerator as NegativeGenerator
from .readers.bad_rows import RowReport as RowReport
from .readers.captions import load_captions as load_captions
from .readers.conversations import load_conversations as load_conversations
