"""Bars as SVG, without a library. Used by bench/compare."""
from html import escape

LEFT, WIDTH, ROW, TOP = 130, 520, 34, 46
OURS, FLOOR, AIM = "#2f6f9f", "#b9c4cc", "#c0392b"


def bars(title, rows, below):
    """rows: (name, (median, least, most), the same of the floor or None, aim or None), as shares of what is 1."""
    most = max([1.1, *(it[2] for row in rows for it in row[1:3] if it)])
    height = TOP + ROW * len(rows) + 58

    def x(share):
        return LEFT + share / most * WIDTH

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">' % (LEFT + WIDTH + 70, height),
           '<rect width="100%" height="100%" fill="white"/>', '<text x="%d" y="18" font-size="14">%s</text>' % (LEFT, escape(title)),
           '<text x="%d" y="34" fill="%s">pgsluice</text><text x="%d" y="34" fill="%s">the floor</text><text x="%d" y="34" fill="%s">| aim</text>'
           % (LEFT, OURS, LEFT + 70, "#7f8c8d", LEFT + 150, AIM)]
    for number, (name, ours, floor, aim) in enumerate(rows):
        y = TOP + ROW * number
        out.append('<text x="%d" y="%d" text-anchor="end">%s</text>' % (LEFT - 8, y + 16, escape(name)))
        for share, top, thick, colour in ((ours, y + 2, 14, OURS), (floor, y + 18, 8, FLOOR)):
            if share is None:
                continue
            out.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (LEFT, top, x(share[0]) - LEFT, thick, colour))
            out.append('<line x1="%.1f" x2="%.1f" y1="%g" y2="%g" stroke="black"/>' % (x(share[1]), x(share[2]), top + thick / 2, top + thick / 2))
        out.append('<text x="%.1f" y="%d">%.2f</text>' % (x(ours[2]) + 5, y + 14, ours[0]))
        if aim is not None:
            out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="%s" stroke-width="2"/>' % (x(aim), x(aim), y, y + 28, AIM))
    end = TOP + ROW * len(rows)
    out.append('<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="gray" stroke-dasharray="3,3"/>' % (x(1), x(1), TOP - 4, end))
    out.append('<text x="%.1f" y="%d" text-anchor="middle" fill="gray">PgBouncer</text>' % (x(1), end + 14))
    out.append('<text x="8" y="%d" font-size="9" fill="gray">%s</text></svg>\n' % (end + 38, escape(below.replace("`", ""))))
    return "\n".join(out)
