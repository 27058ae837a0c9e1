"""What spreadsheets make of gene names: SEPT2 becomes 2-Sep, MARCH1 1. Mär or 43891, in the language of the machine."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, timedelta

# Only the months that begin like a gene: MARCH and MARC, SEPT, DEC, OCT, NOV, APR, FEB. Without accents, as
# written by spreadsheets in the languages of Europe, Chinese, Japanese and Korean; short forms and full names.
_MONTH_WORDS = """
mar mars marz mrz maerz march marzo marco maart mrt maalis maalisk maaliskuu marec brezen bre breznen brezna
marzec marca marts martie marci marcius marc mart martti ozu ozujak ozujka kovas kov martios martiou март мар
марта μαρ μαρτιος μαρτιου березень бер sep sept september septembre septiembre setembro settembre set sett
syys syyskuu syysk wrz wrzesien wrzesnia zari zar szept szeptember eyl eylul septembrie septembris ruj rujan
rujna rgs rugsejis сен сент сентябрь сентября σεπ σεπτ вересень вер dec december decembre diciembre dezembro
dicembre dic dez dezember des desember joulu joulukuu joulk gru grudzien grudnia pro prosinec prosince ara
aralik decembrie pros prosinac дек декабрь декабря δεκ грудень oct okt october oktober octobre octubre outubro
ottobre out ott loka lokakuu paz pazdziernik rij rijen eki ekim octombrie lis listopad окт октябрь октября οκτ
nov november novembre noviembre novembro marras ноя ноябрь kas kasim noe apr april avril avr abril abr aprile
huhti kwi kwiecien dub duben nis nisan апр апрель travanj feb febr february februar fevrier fevr fev febrero
fevereiro febbraio helmi lut luty uno unor sub subat фев
"""
_MONTHS = frozenset(_MONTH_WORDS.split())
_SIGN = r"[\s.\-/,_\u2010-\u2015]+"
_DAY_MONTH = re.compile(rf"(\d{{1,2}})(?:{_SIGN}|\.? de )([^\W\d_]+)\.?(?:{_SIGN}(?:de )?\d{{2,4}})?")
_MONTH_DAY = re.compile(rf"([^\W\d_]+)\.?{_SIGN}(\d{{1,2}})(?:{_SIGN}\d{{2,4}})?")
_TIME = r"(?:[T\s]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
_NUMERIC = re.compile(
    rf"(?:(?:1[89]|20)\d\d[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/.]\d{{1,2}}[-/.](?:\d\d)?\d\d){_TIME}"
    r"|\d{1,2}/\d{1,2}|\d{1,2}\.\d{1,2}\.|\d{1,2}-\d{1,2}"
)
_EAST = re.compile(r"(?:\d{4}年)?\d{1,2}月\d{1,2}日|(?:\d{4}년\s*)?\d{1,2}월\s*\d{1,2}일")
_SERIAL = re.compile(r"[1-5]\d{4}(?:\.0+)?")
_EPOCH = date(1899, 12, 30)  # day 0 of spreadsheets
_GENE_MONTHS = (2, 3, 4, 9, 10, 11, 12)
_LAST_GENE = 15  # SEPT15 is the highest number of these families


def is_spreadsheet_date(name: str) -> bool:
    """Whether a name is what spreadsheets make of SEPT2 or MARCH1, as a date in any language: "2-Sep", "1. Mär"."""
    text = " ".join(name.split()).strip("'\"")
    if _NUMERIC.fullmatch(text) or _EAST.fullmatch(text):
        return True
    if not any(c.isdigit() for c in text) or text.isalnum():  # SEPT2 itself
        return False
    text = _without_accents(text)
    for pattern, place in ((_DAY_MONTH, 2), (_MONTH_DAY, 1)):
        if (match := pattern.fullmatch(text)) and match[place] in _MONTHS:
            return True
    return False


def is_date_serial(name: str) -> bool:
    """Whether a name is the number of such a day, e.g. 43891 for 1 March 2020; ids of Entrez look alike."""
    if not _SERIAL.fullmatch(name):
        return False
    day = _EPOCH + timedelta(days=int(float(name)))
    return day.month in _GENE_MONTHS and day.day <= _LAST_GENE


def _without_accents(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))
