"""Weights by others: files of other programs as tensors, read without running anything in them."""

from genplug.foreign.convert import Foreign as Foreign
from genplug.foreign.convert import convert as convert
from genplug.foreign.convert import read_foreign as read_foreign
