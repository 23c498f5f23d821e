"""Tables that others read: Markdown, and lines of a terminal."""
from mixedae_mm.utils.tables import markdown_table, text_table


def test_markdown():
    assert markdown_table(['', 'a|b'], [['x', '1'], ['y', '2']]) == (
        '|  | a\\|b |\n| --- | --- |\n| x | 1 |\n| y | 2 |')
    assert markdown_table(['n', 'v', 'w'], [], numbers=True).splitlines()[1] == (
        '| --- | ---: | ---: |')


def test_columns_of_a_terminal_are_aligned():
    lines = text_table(['name', 'x'], [['a', '10.5'], ['longer', '2']]).splitlines()
    assert lines == ['name       x', 'a       10.5', 'longer     2']
