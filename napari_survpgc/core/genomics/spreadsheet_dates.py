"""Gene names that a spreadsheet has turned into dates or numbers: SEPT2 into 2-Sep, MARCH1 into 01.Mrz or 43891."""

from __future__ import annotations

import re
import unicodedata

# February, March, April and September to December, the months that begin like genes (MARCH1, SEPT2, DEC1, NOV, OCT4), as
# spreadsheets of 29 languages write them (Unicode CLDR, short and long), in small letters without accents.
_MONTHS = frozenset(
    """
    abr abril apr april aprila aprile aprilie aprilis aprill ara aralik aralık avr avril bal balandis balandzio
    brezen brezna dec decembar december decembra decembre decembrie decembris decembro des desember desembre dets
    detsember dez dezember dezembro dic dicembre diciembre dub duben dubna eki ekim eyl eylul feb febbraio febr
    febreiro febrer febrero februar februara februari februarie februaris february fev fevereiro fevr fevrier gru
    grudnia grudzien gruod gruodis gruodzio helmi helmikuu helmikuuta huhti huhtikuu huhtikuuta joulu joulukuu
    joulukuuta kas kasim kasım kovas kovo kwi kwiecien kwietnia lapkr lapkricio lapkritis lis listopad listopada
    listopadu loka lokakuu lokakuuta lut lutego luty maalis maaliskuu maaliskuuta maart maer maerz mar marc marca
    march marcius marco marec maret marras marraskuu marraskuuta mars mart martie marts marz marzec marzo mrt mrz
    nis nisan noiembrie nov novembar november novembra novembre novembris novembro noviembre oct october octobre
    octombrie octubre okt oktobar oktober oktobra oktobris oktoober ott ottobre out outubro ozu ozujak ozujka paz
    pazdziernik pazdziernika pro prosinac prosinca prosince prosinec rij rijen rijna rugsejis rugsejo ruj rujan
    rujna sent sep sept septembar september septembra septembre septembrie septembris septiembre set setembre
    setembro settembre spal spalio spalis stu studeni studenoga subat syys syyskuu syyskuuta szept szeptember
    travanj travnja uno unor unora vasario vasaris veebr veebruar velj veljaca veljace wrz wrzesien wrzesnia zar
    zari απρ απριλιος απριλιου δεκ δεκεμβριος δεκεμβριου μαρ μαρτιος μαρτιου νοε νοεμβριος νοεμβριου οκτ οκτωβριος
    οκτωβριου σεπ σεπτεμβριος σεπτεμβριου φεβ φεβρουαριος φεβρουαριου апр апрель апреля април бер березень березня
    вер вересень вересня груд грудень грудня дек декабрь декабря декември жовт жовтень жовтня квіт квітень квітня
    лист листопад листопада лют лютии лютого мар март марта ное ноември нояб ноябрь ноября окт октомври октябрь
    октября сент сентябрь сентября сеп септември фев февр февраль февраля февруари
    """.split()  # noqa: SIM905 - a list of strings would take 300 lines
)
_OTHER_WORDS = frozenset(("de", "of", "den", "г", "р"))
_ORDINAL = re.compile(r"^(\d{1,2})(er|st|nd|rd|th|o|a)$")
_ROMAN = frozenset(("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"))
_ASIAN = re.compile(r"(\d+\s*[年년.]\s*)?\d{1,2}\s*[月월](\s*\d{1,2}\s*[日일]?)?")
_TIME = re.compile(r"[t\s]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?z?$")
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?(e[-+]?\d+)?", re.IGNORECASE)


def is_spreadsheet_date(name: str) -> bool:
    """Return True for a date in any spelling: 1-Sep, Sep-01, 1. Mär, sept.-1, 01.03.2001, 2001-03-01, 9月1日.

    No symbol of a gene is one; what is written without a sign between its parts (SEPT2) is a gene.
    """
    text = _TIME.sub("", _plain(name))
    if _ASIAN.fullmatch(text):
        return True
    parts = [_ORDINAL.sub(r"\1", part) for part in re.split(r"[\s\-./,]+", text)]
    parts = [part for part in parts if part and part not in _OTHER_WORDS]
    numbers = [part for part in parts if part.isdigit()]
    words = [part for part in parts if not part.isdigit()]
    if len(parts) < 2 or any(len(number) > 4 for number in numbers):
        return False
    if not words:
        # 3/1 and 1.3. have no year; 1.3 is a number, and is told as that.
        day = re.fullmatch(r"\d{1,2}(/\d{1,2}|\.\s?\d{1,2}\.)", text) is not None
        if day and len(numbers) == 2:
            return min(map(int, numbers)) <= 12 and max(map(int, numbers)) <= 31
        return _is_date_of_numbers(numbers)
    if len(words) != 1 or len(numbers) > 2:
        return False
    # 1.III is how Czech and Polish write it; III-1 is no date.
    roman = words[0] in _ROMAN and parts[0].isdigit() and "-" not in text
    return words[0] in _MONTHS or roman


def is_number(name: str) -> bool:
    """Return True for a name that is a number: the day that a spreadsheet counts (43891), or 2.31E+13 for an id."""
    return _NUMBER.fullmatch(name.strip()) is not None


def _is_date_of_numbers(numbers: list[str]) -> bool:
    values = [int(number) for number in numbers]
    years = [value for number, value in zip(numbers, values, strict=True) if len(number) == 4]
    if len(years) > 1 or any(not 1900 <= year < 2100 for year in years):
        return False
    rest = [value for number, value in zip(numbers, values, strict=True) if len(number) < 4]
    if len(values) == 3 and not years and len(numbers[-1]) != 2:
        return False  # 14-3-3 is a protein
    if len(values) == 3:
        return (
            len(rest) >= 2 and all(value <= 99 for value in rest) and any(1 <= value <= 12 for value in rest)
        )
    return len(values) == 2 and len(years) == 1 and 1 <= rest[0] <= 12


def _plain(name: str) -> str:
    """Return small letters without accents; Korean stays whole."""
    whole = unicodedata.normalize("NFC", name.strip().lower())
    if any("\uac00" <= letter <= "\ud7a3" for letter in whole):
        return whole
    parts = unicodedata.normalize("NFKD", whole)
    return "".join(letter for letter in parts if not unicodedata.combining(letter))
