"""The name that a mistyped one stands for."""
from mixedae_mm.utils.errors import nearest


def test_of_names_equal_but_for_case_the_first_is_meant():
    assert nearest('mixedvit', ['MixedViT', 'mixedViT', 'other']) == 'MixedViT'
    assert nearest('zzz', ['MixedViT']) == ''
