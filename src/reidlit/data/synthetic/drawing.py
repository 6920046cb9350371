"""Draws people; `reidlit.data.synthetic.walkers` chooses which.

They are drawn with OpenCV on an image larger than the wanted one, without antialiasing: shrinking it afterwards
smooths the edges and is faster than antialiased polygons.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # (H, W, 3) RGB
Colour = tuple[int, int, int]
Point = tuple[float, float]
Upper = Literal["tshirt", "longsleeve", "jacket", "open_jacket", "dress"]

SHIFT = 3  # fractional bits of OpenCV's fixed-point coordinates: a small figure must not snap to whole pixels
FAR = 0.8  # brightness of a limb on the side away from the camera
SHADE = 0.86  # brightness of the side of a body that is turned from the light


@dataclass(frozen=True, slots=True)
class Person:
    """What stays the same about an identity wherever it is seen. Lengths are fractions of the body height."""

    build: float  # width of the body, 1 is average
    hip: float  # height of the hip joints, about 0.5
    head: float  # half the height of the head, about 0.07
    skin: Colour
    hair: Colour
    hair_style: Literal["short", "bald", "long", "bun", "afro"]
    upper: Upper
    upper_colour: Colour
    second_colour: Colour
    pattern: Literal["plain", "stripes", "pinstripes", "blocks", "sleeves", "logo"]
    hem: float  # how far the upper clothing reaches below the hip
    lower: Literal["trousers", "shorts", "skirt"]
    lower_colour: Colour
    shoes: Colour
    bag: Literal["none", "backpack", "shoulder", "hand"]
    bag_colour: Colour
    hat: Literal["none", "cap", "beanie"]
    hat_colour: Colour


@dataclass(frozen=True, slots=True)
class Pose:
    """How a person stands before the camera. Angles are in radians."""

    yaw: float  # 0 faces the camera, pi/2 walks to the right of the image, pi shows the back
    phase: float  # of the walking cycle, 0 to 2 pi
    stride: float  # largest angle between a leg and the vertical
    elbow: float  # how far the forearms are bent forward


@dataclass(frozen=True, slots=True)
class Place:
    """Where a person stands in an image: pixels from the left and the top to the point between the feet."""

    x: float
    y: float
    unit: float  # body height in pixels


def scaled(colour: Colour, factor: float) -> Colour:
    """Returns the colour made darker (`factor` < 1) or brighter, within 0 to 255."""
    red, green, blue = (min(255, max(0, round(value * factor))) for value in colour)
    return red, green, blue


class Pen:
    """Fills shapes given in body coordinates: x to the right, y up from the feet, 1 is the body height."""

    def __init__(self, image: Image, place: Place) -> None:
        """Draws on `image` (H, W, 3), in place."""
        self.image = image
        self.scale = place.unit * (1 << SHIFT)
        self.x = place.x * (1 << SHIFT)
        self.y = place.y * (1 << SHIFT)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fills a polygon whose outline crosses every horizontal line at most twice."""
        scale, x, y = self.scale, self.x, self.y
        fixed = np.array([(int(x + px * scale), int(y - py * scale)) for px, py in points], dtype=np.int32)
        cv2.fillConvexPoly(self.image, fixed, colour, cv2.LINE_8, SHIFT)

    def ellipse(self, centre: Point, half: Point, colour: Colour) -> None:
        """Fills an ellipse with the half axes (horizontal, vertical)."""
        at = (int(self.x + centre[0] * self.scale), int(self.y - centre[1] * self.scale))
        axes = (max(1, int(half[0] * self.scale)), max(1, int(half[1] * self.scale)))
        cv2.ellipse(self.image, at, axes, 0, 0, 360, colour, -1, cv2.LINE_8, SHIFT)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fills a circle."""
        at = (int(self.x + centre[0] * self.scale), int(self.y - centre[1] * self.scale))
        cv2.circle(self.image, at, max(1, int(radius * self.scale)), colour, -1, cv2.LINE_8, SHIFT)

    def limb(self, start: Point, end: Point, radius: Point, colour: Colour) -> None:
        """Fills a rounded bone from `start` to `end` with the radii at its two ends."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length, dx / length
        (x0, y0), (x1, y1), (r0, r1) = start, end, radius
        self.polygon(
            (
                (x0 + nx * r0, y0 + ny * r0),
                (x1 + nx * r1, y1 + ny * r1),
                (x1 - nx * r1, y1 - ny * r1),
                (x0 - nx * r0, y0 - ny * r0),
            ),
            colour,
        )
        self.disc(start, r0, colour)
        self.disc(end, r1, colour)


class Torso:
    """The outline of a clothed trunk as the camera sees it: half widths at a few heights, straight in between."""

    def __init__(self, rows: Sequence[Point]) -> None:
        """Takes (height, half width) pairs from the top down."""
        self.rows = rows

    def half(self, y: float) -> float:
        """Returns the half width at a height."""
        above = self.rows[0]
        for row in self.rows[1:]:
            if y >= row[0]:
                part = (y - row[0]) / (above[0] - row[0])
                return row[1] + part * (above[1] - row[1])
            above = row
        return above[1]

    def band(self, top: float, bottom: float, left: float = -1.0, right: float = 1.0) -> list[Point]:
        """Returns the outline between two heights and two fractions (-1 left edge, 1 right edge) of the half width."""
        heights = [top, *(y for y, _ in self.rows if bottom < y < top), bottom]
        halves = [self.half(y) for y in heights]
        edge = [(left * half, y) for half, y in zip(halves, heights, strict=True)]
        return edge + [(right * half, y) for half, y in zip(reversed(halves), reversed(heights), strict=True)]


class Figure:
    """Draws one person in one pose. The parts are drawn from far to near."""

    SHOULDER = 0.82  # height of the shoulder joints

    def __init__(self, image: Image, person: Person, pose: Pose, place: Place) -> None:
        """Prepares the drawing of `person` on `image` (H, W, 3)."""
        self.pen = Pen(image, place)
        self.person = person
        self.pose = pose
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.chest = self.wide(0.108 * person.build, 0.07 * person.build)
        hips = self.wide(0.088 * person.build, 0.078 * person.build)
        waist = self.wide(0.085 * person.build, 0.066 * person.build)
        hem = person.hip - person.hem
        self.hem = hem
        rows = [(self.SHOULDER + 0.025, 0.5 * self.chest), (self.SHOULDER, self.chest), (person.hip + 0.13, waist)]
        if person.upper == "dress":
            rows += [(person.hip, hips), (hem, 1.45 * hips)]
        else:
            loose = 1.12 if "jacket" in person.upper else 1.0
            rows = [(y, half * loose) for y, half in rows] + [(hem, hips * loose)]
        self.torso = Torso(rows)
        # Where the middle of the chest lies, in half widths, and whether it is to be seen at all.
        self.middle = 0.75 * self.sin
        self.faces_camera = self.cos > 0.15

    def wide(self, lateral: float, depth: float) -> float:
        """Returns the half width that an elliptic cross-section shows at this yaw."""
        return math.hypot(lateral * self.cos, depth * self.sin)

    def across(self, lateral: float, forward: float) -> float:
        """Returns the horizontal position in the image of a point beside and before the body's axis."""
        return lateral * self.cos + forward * self.sin

    def draw(self) -> None:
        """Draws the whole person."""
        near = -1 if self.sin > 0 else 1  # the side, 1 for lateral > 0, that is nearer to the camera
        if self.cos > 0:
            self.backpack()
        self.arm(-near, FAR)
        self.leg(-near, FAR)
        self.leg(near, 1.0)
        if self.person.lower == "skirt" and self.person.upper != "dress":
            self.skirt()
        if self.person.hair_style == "long" and self.faces_camera:
            self.long_hair()  # before the clothes, or it would hang down like a beard
        self.clothes()
        if self.cos <= 0:
            self.backpack()
        self.head()
        self.arm(near, 1.0)
        self.carried()

    def leg(self, side: int, light: float) -> None:
        """Draws a leg with its trousers and its shoe."""
        person, pose = self.person, self.pose
        swing = pose.stride * math.sin(pose.phase) * side
        flex = 0.15 + 0.9 * pose.stride * max(0.0, math.cos(pose.phase) * side)
        bone = (person.hip - 0.03) / 2
        lateral = 0.048 * person.build * side
        hip = (self.across(lateral, 0), person.hip)
        forward = bone * math.sin(swing)
        knee = (self.across(lateral, forward), person.hip - bone * math.cos(swing))
        forward += bone * math.sin(swing - flex)
        ankle = (self.across(lateral, forward), knee[1] - bone * math.cos(swing - flex))
        cloth = scaled(person.lower_colour, light)
        skin = scaled(person.skin, light)
        thigh, shin = 0.05 * person.build, 0.036 * person.build
        bare = person.lower != "trousers" or person.upper == "dress"
        toe = (ankle[0] + 0.035 * self.sin, ankle[1] - 0.012 - 0.01 * max(0.0, self.cos))
        self.pen.limb(knee, ankle, (shin * (0.85 if bare else 1.0), 0.024 if bare else 0.029), skin if bare else cloth)
        self.pen.limb(hip, knee, (thigh, shin * 1.05), skin if bare and person.lower != "shorts" else cloth)
        self.pen.ellipse(toe, (0.026 + 0.024 * abs(self.sin), 0.02), scaled(person.shoes, light))

    def arm(self, side: int, light: float) -> None:
        """Draws an arm with its sleeve and its hand."""
        person = self.person
        shoulder, elbow, hand = self.joints(side)
        thick = 0.031 * person.build * (1.2 if "jacket" in person.upper else 1.0)
        colour = person.second_colour if person.pattern == "sleeves" else person.upper_colour
        sleeve = scaled(colour, light * 0.92)  # else it vanishes before the chest
        skin = scaled(person.skin, light)
        short = person.upper in ("tshirt", "dress")
        self.pen.limb(elbow, hand, (0.026 if short else thick, 0.019 if short else 0.024), skin if short else sleeve)
        self.pen.limb(shoulder, elbow, (thick * 1.1, thick * (1.05 if short else 1.0)), sleeve)
        self.pen.disc(hand, 0.022, skin)

    def joints(self, side: int) -> tuple[Point, Point, Point]:
        """Returns the shoulder, the elbow and the hand of one arm, which swings against the leg of its side."""
        pose, build = self.pose, self.person.build
        swing = -0.9 * pose.stride * math.sin(pose.phase) * side
        lateral = 0.112 * build * side
        y = self.SHOULDER - 0.02
        shoulder = (self.across(lateral, 0), y)
        forward = 0.165 * math.sin(swing)
        y -= 0.165 * math.cos(swing)
        elbow = (self.across(lateral * 1.15, forward), y)
        forward += 0.15 * math.sin(swing + pose.elbow)
        hand = (self.across(lateral * 1.15, forward), y - 0.15 * math.cos(swing + pose.elbow))
        return shoulder, elbow, hand

    def skirt(self) -> None:
        """Draws a skirt that widens to the knees."""
        person = self.person
        hips = self.wide(0.09 * person.build, 0.08 * person.build)
        knee = person.hip * 0.52
        self.pen.polygon(
            ((-hips, person.hip + 0.03), (hips, person.hip + 0.03), (1.35 * hips, knee), (-1.35 * hips, knee)),
            person.lower_colour,
        )

    def clothes(self) -> None:
        """Draws the upper clothing with its pattern, and the neck."""
        person, torso = self.person, self.torso
        top = torso.rows[0][0]
        self.pen.limb((0, self.SHOULDER), (0, 0.88), (0.034, 0.032), scaled(person.skin, 0.9))
        self.pen.polygon(torso.band(top, self.hem), person.upper_colour)
        self.pattern(top)
        if person.upper == "open_jacket" and self.faces_camera:
            self.front(top, 0.38, person.second_colour)
        elif person.upper == "jacket" and self.faces_camera:
            self.front(top, 0.07, scaled(person.upper_colour, 0.6))
        if person.upper == "dress":
            belt = person.hip + 0.12
            self.pen.polygon(torso.band(belt + 0.015, belt - 0.015), scaled(person.second_colour, 0.9))

    def front(self, top: float, width: float, colour: Colour) -> None:
        """Draws a strip down the middle of the chest, where a jacket opens."""
        half = width * self.cos
        self.pen.polygon(self.torso.band(top, self.hem, self.middle - half, self.middle + half), colour)

    def pattern(self, top: float) -> None:
        """Draws the pattern of the upper clothing and shades the side turned from the light."""
        person, torso, pen = self.person, self.torso, self.pen
        colour = person.second_colour
        if person.pattern == "stripes":
            step = (top - self.hem) / 9
            for row in (1, 3, 5, 7):
                pen.polygon(torso.band(top - row * step, top - (row + 1) * step), colour)
        elif person.pattern == "pinstripes":
            for left in (-0.8, -0.3, 0.2, 0.7):
                pen.polygon(torso.band(top, self.hem, left, left + 0.18), colour)
        elif person.pattern == "blocks":
            pen.polygon(torso.band(person.hip + 0.17, self.hem), colour)
        elif person.pattern == "logo" and self.faces_camera and person.upper != "open_jacket":
            at = (self.middle * self.chest * 0.8, self.SHOULDER - 0.11)
            pen.ellipse(at, (0.045 * self.cos, 0.04), colour)
        else:
            pen.polygon(torso.band(self.SHOULDER, self.hem, 0.72, 1.0), scaled(person.upper_colour, SHADE))

    def backpack(self) -> None:
        """Draws a backpack: the whole of it from behind, its profile from the side, its straps from the front."""
        person, pen = self.person, self.pen
        if person.bag != "backpack":
            return
        x = self.across(0, -0.095 * person.build)
        half = self.wide(0.085, 0.05)
        pen.ellipse((x, 0.71), (half, 0.12), person.bag_colour)
        pen.ellipse((x, 0.66), (half * 0.7, 0.055), scaled(person.bag_colour, 0.75))

    def carried(self) -> None:
        """Draws a backpack's straps, a bag slung over a shoulder or a bag in the hand."""
        person, pen = self.person, self.pen
        if person.bag == "backpack" and self.faces_camera:
            for side in (-0.5, 0.5):
                x = self.middle + side * self.cos
                pen.polygon(self.torso.band(self.SHOULDER + 0.02, 0.65, x - 0.1, x + 0.1), person.bag_colour)
        elif person.bag == "shoulder":
            hip = (self.across(0.115 * person.build, 0.02), person.hip + 0.02)
            pen.limb((self.across(-0.06, 0), self.SHOULDER + 0.01), hip, (0.009, 0.009), scaled(person.bag_colour, 0.7))
            if self.sin < 0.6:  # otherwise the body hides it
                half = self.wide(0.045, 0.075)
                pen.ellipse((hip[0], hip[1] - 0.035), (half, 0.06), person.bag_colour)
        elif person.bag == "hand":
            x, y = self.joints(1)[2]
            half = self.wide(0.035, 0.075)
            pen.polygon(
                ((x - half, y), (x + half, y), (x + half * 1.1, y - 0.13), (x - half * 1.1, y - 0.13)),
                person.bag_colour,
            )

    def long_hair(self) -> None:
        """Draws the hair that falls behind the shoulders."""
        size = self.person.head
        self.pen.ellipse((self.across(0, -0.02), 0.955 - size), (size * 0.92, size * 1.45), self.person.hair)

    def head(self) -> None:
        """Draws the head: hair, face where it is turned to the camera, and a hat."""
        person, pen = self.person, self.pen
        size = person.head
        y = 1.0 - size
        wide = size * 0.82
        hair = person.skin if person.hair_style == "bald" else person.hair
        if person.hair_style == "afro":
            pen.disc((0, y + 0.012), size * 1.3, hair)
        elif person.hair_style == "long" and not self.faces_camera:
            self.long_hair()
        elif person.hair_style == "bun":
            pen.disc((self.across(0, -0.05), y + size * 0.75), size * 0.5, hair)
        pen.ellipse((0, y), (wide, size), hair)
        if self.cos > -0.45:
            turned = max(0.0, (self.cos + 0.45) / 1.45)
            face = (self.across(0, 0.026), y - size * 0.16)
            pen.ellipse(face, (wide * (0.5 + 0.33 * turned), size * 0.8), person.skin)
        if person.hat != "none":
            self.cover(y, size, wide)

    def cover(self, y: float, size: float, wide: float) -> None:
        """Draws a cap with its visor or a beanie on a head at height `y`."""
        person, pen = self.person, self.pen
        low = y + size * 0.25
        pen.polygon(
            (
                (-wide * 0.6, y + size * 1.12),
                (wide * 0.6, y + size * 1.12),
                (wide * 1.1, y + size * 0.7),
                (wide * 1.12, low),
                (-wide * 1.12, low),
                (-wide * 1.1, y + size * 0.7),
            ),
            person.hat_colour,
        )
        if person.hat == "cap" and self.cos > -0.3:
            x = self.across(0, 0.06)
            pen.ellipse((x, low), (self.wide(0.05, 0.05), 0.013), scaled(person.hat_colour, 0.7))


def draw_person(image: Image, person: Person, pose: Pose, place: Place) -> None:
    """Draws a person with its shadow on `image` (H, W, 3), in place."""
    height, width = image.shape[:2]
    foot_x, foot_y = min(width - 1, max(0, int(place.x))), min(height - 1, max(0, int(place.y)))
    red, green, blue = image[foot_y, foot_x].tolist()
    Pen(image, place).ellipse((0.04, 0.01), (0.17, 0.025), scaled((red, green, blue), 0.65))
    Figure(image, person, pose, place).draw()
