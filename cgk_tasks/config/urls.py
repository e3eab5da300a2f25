"""The form of a server's URL, before anybody else reads it: what is ambiguous is refused, and no error quotes any of
it.
"""

from __future__ import annotations

from cgk_tasks.errors import ConfigurationError

ADVICE = "Write special characters in the user's name and the password as %XX: / as %2F, @ as %40, # as %23, ? as %3F."


def refuse_ambiguous(variable: str, url: str) -> None:
    """Raises ConfigurationError where a character of the password would end it, in one program's eyes or another's."""
    rest = url.partition("://")[2]
    authority = rest
    for end in "/?#":
        authority = authority.partition(end)[0]
    after, _, query = rest[len(authority) :].partition("?")
    is_ambiguous = (
        "#" in rest
        or authority.count("@") > 1
        or "@" in after
        or ("@" in query and "@" not in authority and authority)
        or any(character.isspace() or not character.isprintable() for character in url)
    )
    if is_ambiguous:
        raise ConfigurationError(f"{variable} is ambiguous: it has a character that ends the password early. {ADVICE}")
