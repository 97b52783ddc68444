"""In which language a text is written: by its script, and where several share it, by the small words that every
sentence needs. No model, no download; a text without enough of them is left undecided.

Latin script: 15 European languages (Danish and Norwegian as one). Cyrillic: Russian, Ukrainian, Bulgarian. Others: by
the script alone.
"""

import re
from collections import Counter
from itertools import chain

_CHARACTERS = 600
_LEAST_SMALL_WORDS = 4
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_ASCII_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")  # of a text in small letters the same, and faster
_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|https?://\S+", re.DOTALL)

# The commonest small words of each, those that languages share included: their shares then weigh against each other.
# Words of one letter are left out: formulas are full of them.
_SMALL_WORDS = {
    "English": (
        "the and of to in is that it you for with this are was have not be your what can from they which will "
        "would there their been i'm it's don't that's you're how about when if we or as at by am an my me he she "
        "his her could should has had do our us all more into than these then some any who but no so on one out up "
        "here let's"
    ),
    "German": (
        "der die das und ist nicht ich sie ein eine einen den dem mit für auf sich auch es von zu wir ihr dass "
        "wenn aber oder wie haben werden kann sind bei nur noch nach aus einer zum zur als im in an so was hier "
        "mir mich dir dich"
    ),
    "French": (
        "le la les de des et est une un en dans que qui pas vous nous ce cette avec sur plus ne je il elle se sont "
        "être mais ou votre au aux du son ses pour par leur comme fait j'ai n'est c'est tu te on si sans"
    ),
    "Spanish": (
        "el la los las de del en que una un es por con para se no al lo su sus como más pero esta este está son tu "
        "te le me mi si sí cuando también hay yo puede qué muy usted ser ha han sobre entre"
    ),
    "Italian": (
        "il la le gli che di un una per non con sono del della nel alla più anche questo questa ma come si ci lo "
        "in da essere dei delle dal tuo suo hai può perché al se mi ti ha ho cosa"
    ),
    "Portuguese": (
        "os as um uma não de que para com do da dos das em no na nos nas mais você por se como mas ao são está seu "
        "sua isso também ser pode muito foi esta este te me eu ele ela"
    ),
    "Dutch": (
        "het een de en van is dat niet ik je op te zijn met voor er aan maar om ook als dan bij wat naar deze "
        "wordt kan uit nog heeft hebben jij uw zij in dit die of hij we"
    ),
    "Swedish": (
        "och att det är som på för inte med jag en ett av till har den om du kan från vi men så eller ska var "
        "mycket där när också de man sig han hon dig mig"
    ),
    "Danish or Norwegian": (
        "og at det er ikke jeg en et af til med på for der som du kan har den fra vi men så eller skal være meget "
        "hvor også blev hvad om de man sig han hun dig mig av mye ble hva noe seg deg meg"
    ),
    "Polish": (
        "nie na się do jest to że jak ale po co tak za od przez być może dla są tego czy już tylko ma który oraz "
        "jego jej ich mi go te ten ta we ze bardzo"
    ),
    "Czech": (
        "se na je že do to jako ale po by jsem jsou nebo tak který které být pro už jen při také není jste může ve "
        "ze za od si jak co když ten"
    ),
    "Romanian": (
        "și în de la cu nu este un pe să din care pentru mai ce au fost sunt dar se ca acest această sau lui fi "
        "poate când al ale ai am îi mă te vă"
    ),
    "Finnish": (
        "ja on ei se että hän olla mutta kun niin myös joka tai ovat oli voi sen jos kuin vain minä sinä mitä tämä "
        "ole nyt ne en et olen"
    ),
    "Hungarian": (
        "az és hogy nem is egy van meg ha de ez csak mint vagy már ki azt lesz volt ezt lehet kell minden nagyon "
        "itt el fel be én te ön"
    ),
    "Turkish": (
        "ve bir bu için ile da de çok daha olarak olan gibi ne değil var mı ben sen kadar ama en her sonra olduğu "
        "ki şu biz siz"
    ),
    "Russian": (
        "не на что это как но по из так все его она они было быть для вы мы если или бы только он от за же ты меня "
        "мне вам вас"
    ),
    "Ukrainian": (
        "не на що це як але по до за від та все його вона вони було бути для ви ми якщо або також він ти мене мені "
        "вам вас"
    ),
    "Bulgarian": (
        "не на че аз той това как но по към за от да се са или ако ще като със беше много го ги си ми ви вие ние тя"
    ),
}
_LANGUAGES_OF: dict[str, tuple[str, ...]] = {}
for _language, _words in _SMALL_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF[_word] = (*_LANGUAGES_OF.get(_word, ()), _language)
_ENGLISH = frozenset(_SMALL_WORDS["English"].split())

_SCRIPTS = (
    ("Japanese", re.compile(r"[\u3040-\u30ff]")),
    ("Chinese", re.compile(r"[\u3400-\u9fff]")),
    ("Korean", re.compile(r"[\uac00-\ud7af]")),
    ("Arabic script", re.compile(r"[\u0600-\u06ff]")),
    ("Hebrew", re.compile(r"[\u0590-\u05ff]")),
    ("Greek", re.compile(r"[\u0370-\u03ff]")),
    ("Thai", re.compile(r"[\u0e00-\u0e7f]")),
    ("Devanagari script", re.compile(r"[\u0900-\u097f]")),
    ("Bengali", re.compile(r"[\u0980-\u09ff]")),
    ("Tamil", re.compile(r"[\u0b80-\u0bff]")),
    ("Georgian", re.compile(r"[\u10a0-\u10ff]")),
    ("Armenian", re.compile(r"[\u0530-\u058f]")),
)
_OF_A_SCRIPT = re.compile("[" + "".join(script.pattern[1:-1] for _, script in _SCRIPTS) + "]").search
LANGUAGES = (None, *_SMALL_WORDS, *(name for name, _ in _SCRIPTS))


def language_of(text: str, letters: int = 40) -> str | None:
    """The language of a text; None when it has too little of any (code, lists, numbers, names). letters: a Latin or
    Cyrillic text with fewer is not judged; of other scripts a sixth is enough."""
    piece = text[: 2 * _CHARACTERS]
    if "`" in piece or "://" in piece:
        piece = _CODE.sub(" ", piece)
    piece = piece[:_CHARACTERS].lower()
    if not piece.isascii() and (script := _script(piece, letters)):
        return script
    if len(piece) < letters or (("(" in piece or "=" in piece) and sum(map(piece.count, "{}();=<>")) * 25 > len(piece)):
        return None  # too short, or code
    find_words = (_ASCII_WORD if piece.isascii() else _WORD).findall
    words = piece.split() if piece.isascii() else find_words(piece.replace("’", "'"))
    # Most texts are English, and one look says so.
    english = sum(map(_ENGLISH.__contains__, words))
    if english >= 6 and english * 4 > len(words):
        return "English"
    if piece.isascii() or "’" in piece:
        words = find_words(piece)
    known = list(filter(None, map(_LANGUAGES_OF.get, words)))
    if len(known) < _LEAST_SMALL_WORDS or sum(map(len, words)) < letters:
        return None
    hits = Counter(chain.from_iterable(known))
    best = max(hits, key=hits.__getitem__)
    most = hits.pop(best)
    second = max(hits.values(), default=0)
    if most < _LEAST_SMALL_WORDS or most * 7 < len(words) or most < second + 2 or most < 1.15 * second:
        return None
    return best


def _script(piece: str, letters: int) -> str | None:
    if letters > 0 and not _OF_A_SCRIPT(piece):  # a dash or an emoji is most often all that is not ASCII
        return None
    total = sum(map(str.isalpha, piece))
    for name, script in _SCRIPTS:
        count = len(script.findall(piece))
        if name == "Chinese":
            count = count if count * 2 >= total else 0
        # Japanese is written with Chinese characters between the kana: a tenth is enough to tell.
        if count * 6 >= letters and count * (8 if name == "Japanese" else 2) >= total:
            return name
    return None
