"""Rendering of a person in a pose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reidlit.data.synthetic.drawing import Colour, Image, Pen, Point, scaled
from reidlit.data.synthetic.people import Person

SHOULDER = 0.82  # height of the shoulder joints
FAR = 0.8  # brightness of a limb on the side away from the camera
SHADE = 0.86  # brightness of the side of a body that is turned from the light


@dataclass(frozen=True, slots=True)
class Pose:
    """Posture of a person. Angles are in radians."""

    yaw: float  # 0 faces the camera, pi/2 walks to the right of the image, pi shows the back
    phase: float  # phase of the walking cycle, 0 to 2 pi
    stride: float  # largest angle between a leg and the vertical
    elbow: float  # how far the forearms are bent forward


@dataclass(frozen=True, slots=True)
class Position:
    """Position of a person in an image: pixels from the left and the top to the point between the feet."""

    x: float
    y: float
    unit: float  # body height in pixels


class Figure(Pen):
    """Renderer of one person in one pose, which draws far parts before near ones.

    A point of the body has a lateral coordinate, positive to the right of the image if the person faces the camera, a
    forward coordinate and a height.
    """

    def __init__(self, image: Image, person: Person, pose: Pose, position: Position) -> None:
        super().__init__(image, position.x, position.y, position.unit)
        self.person, self.pose = person, pose
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.faces_camera = self.cos > 0.15
        self.middle = 0.75 * self.sin  # position of the middle of the chest in half widths
        self.has_dress = person.upper == "dress"
        self.top, self.hem = SHOULDER + 0.025, person.hip - person.hem
        self.chest = self.wide(0.108 * person.build, 0.07 * person.build)
        hips = self.wide(0.088 * person.build, 0.078 * person.build)
        waist = self.wide(0.085 * person.build, 0.066 * person.build)
        self.torso = [(self.top, 0.5 * self.chest), (SHOULDER, self.chest), (person.hip + 0.13, waist)]
        if self.has_dress:
            self.torso += [(person.hip, hips), (self.hem, 1.45 * hips)]
        else:
            loose = 1.12 if "jacket" in person.upper else 1.0
            self.torso = [(y, half * loose) for y, half in (*self.torso, (self.hem, hips))]

    def wide(self, lateral: float, depth: float) -> float:
        """Return the half width that an elliptic cross-section shows at this yaw."""
        return math.hypot(lateral * self.cos, depth * self.sin)

    def across(self, lateral: float, forward: float) -> float:
        """Return the horizontal position in the image of a point of the body."""
        return lateral * self.cos + forward * self.sin

    def band(self, colour: Colour, top: float, bottom: float, left: float = -1.0, right: float = 1.0) -> None:
        """Fill the trunk between two heights and two fractions (-1 left edge, 1 right edge) of its half width."""
        heights = [top, *(y for y, _ in self.torso if bottom < y < top), bottom]
        knots, halves = zip(*reversed(self.torso), strict=True)
        self.rows([*zip(heights, np.interp(heights, knots, halves).tolist(), strict=True)], colour, 0, left, right)

    def joints(
        self, lateral: float, y: float, bones: Sequence[Point], wider: float = 1.0
    ) -> tuple[Point, Point, Point]:
        """Return the three joints of a limb that starts at height `y`; bones are (length, angle from the vertical)."""
        points, forward = [(self.across(lateral, 0), y)], 0.0
        for length, angle in bones:
            forward += length * math.sin(angle)
            y -= length * math.cos(angle)
            points.append((self.across(lateral * wider, forward), y))
        return points[0], points[1], points[2]

    def draw(self) -> None:
        """Draw the person."""
        near = -1 if self.sin > 0 else 1  # side nearer to the camera; 1 is lateral > 0
        if self.cos > 0:
            self.backpack()
        self.arm(-near, FAR)
        self.leg(-near, FAR)
        self.leg(near, 1.0)
        if self.person.lower == "skirt" and not self.has_dress:
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
        """Draw a leg with its trousers and its shoe."""
        person, pose = self.person, self.pose
        swing = pose.stride * math.sin(pose.phase) * side
        flex = 0.15 + 0.9 * pose.stride * max(0.0, math.cos(pose.phase) * side)
        bone = (person.hip - 0.03) / 2
        lateral = 0.048 * person.build * side
        hip, knee, ankle = self.joints(lateral, person.hip, ((bone, swing), (bone, swing - flex)))
        cloth, skin = scaled(person.lower_colour, light), scaled(person.skin, light)
        thigh, shin = 0.05 * person.build, 0.036 * person.build
        bare = person.lower != "trousers" or self.has_dress
        toe = (ankle[0] + 0.035 * self.sin, ankle[1] - 0.012 - 0.01 * max(0.0, self.cos))
        self.limb(knee, ankle, (shin * (0.85 if bare else 1.0), 0.024 if bare else 0.029), skin if bare else cloth)
        self.limb(hip, knee, (thigh, shin * 1.05), skin if bare and person.lower != "shorts" else cloth)
        self.ellipse(toe, (0.026 + 0.024 * abs(self.sin), 0.02), scaled(person.shoes, light))

    def arm(self, side: int, light: float) -> None:
        """Draw an arm with its sleeve and its hand."""
        person = self.person
        shoulder, elbow, hand = self.arm_joints(side)
        thick = 0.031 * person.build * (1.2 if "jacket" in person.upper else 1.0)
        colour = person.second_colour if person.pattern == "sleeves" else person.upper_colour
        sleeve = scaled(colour, light * 0.92)  # darker than the chest, in front of which it would vanish
        skin = scaled(person.skin, light)
        short = person.upper in ("tshirt", "dress")
        self.limb(elbow, hand, (0.026, 0.019) if short else (thick, 0.024), skin if short else sleeve)
        self.limb(shoulder, elbow, (thick * 1.1, thick * (1.05 if short else 1.0)), sleeve)
        self.disc(hand, 0.022, skin)

    def arm_joints(self, side: int) -> tuple[Point, Point, Point]:
        """Return the shoulder, the elbow and the hand of one arm, which swings against the leg of its side."""
        pose = self.pose
        swing = -0.9 * pose.stride * math.sin(pose.phase) * side
        bones = ((0.165, swing), (0.15, swing + pose.elbow))
        return self.joints(0.112 * self.person.build * side, SHOULDER - 0.02, bones, wider=1.15)

    def skirt(self) -> None:
        """Draw a skirt that widens to the knees."""
        person = self.person
        hips = self.wide(0.09 * person.build, 0.08 * person.build)
        self.rows(((person.hip + 0.03, hips), (person.hip * 0.52, 1.35 * hips)), person.lower_colour)

    def clothes(self) -> None:
        """Draw the upper clothing with its pattern, and the neck."""
        person = self.person
        self.limb((0, SHOULDER), (0, 0.88), (0.034, 0.032), scaled(person.skin, 0.9))
        self.band(person.upper_colour, self.top, self.hem)
        self.pattern()
        if "jacket" in person.upper and self.faces_camera:  # a strip down the middle, where the jacket opens
            is_open = person.upper == "open_jacket"
            half = (0.38 if is_open else 0.07) * self.cos
            colour = person.second_colour if is_open else scaled(person.upper_colour, 0.6)
            self.band(colour, self.top, self.hem, self.middle - half, self.middle + half)
        if self.has_dress:
            belt = person.hip + 0.12
            self.band(scaled(person.second_colour, 0.9), belt + 0.015, belt - 0.015)

    def pattern(self) -> None:
        """Draw the pattern of the upper clothing, or shade the side of plain clothing that is turned from the light."""
        person, top, hem = self.person, self.top, self.hem
        colour = person.second_colour
        if person.pattern == "stripes":
            step = (top - hem) / 9
            for row in (1, 3, 5, 7):
                self.band(colour, top - row * step, top - (row + 1) * step)
        elif person.pattern == "pinstripes":
            for left in (-0.8, -0.3, 0.2, 0.7):
                self.band(colour, top, hem, left, left + 0.18)
        elif person.pattern == "blocks":
            self.band(colour, person.hip + 0.17, hem)
        elif person.pattern == "logo" and self.faces_camera and person.upper != "open_jacket":
            self.ellipse((self.middle * self.chest * 0.8, SHOULDER - 0.11), (0.045 * self.cos, 0.04), colour)
        else:
            self.band(scaled(person.upper_colour, SHADE), SHOULDER, hem, 0.72, 1.0)

    def backpack(self) -> None:
        """Draw a backpack without its straps: all of it from behind, its profile from the side."""
        person = self.person
        if person.bag == "backpack":
            x, half = self.across(0, -0.095 * person.build), self.wide(0.085, 0.05)
            self.ellipse((x, 0.71), (half, 0.12), person.bag_colour)
            self.ellipse((x, 0.66), (half * 0.7, 0.055), scaled(person.bag_colour, 0.75))

    def carried(self) -> None:
        """Draw a backpack's straps, a bag slung over a shoulder or a bag in the hand."""
        person = self.person
        if person.bag == "backpack" and self.faces_camera:
            for side in (-0.5, 0.5):
                x = self.middle + side * self.cos
                self.band(person.bag_colour, SHOULDER + 0.02, 0.65, x - 0.1, x + 0.1)
        elif person.bag == "shoulder":
            hip = (self.across(0.115 * person.build, 0.02), person.hip + 0.02)
            strap = scaled(person.bag_colour, 0.7)
            self.limb((self.across(-0.06, 0), SHOULDER + 0.01), hip, (0.009, 0.009), strap)
            if self.sin < 0.6:  # otherwise the body hides it
                self.ellipse((hip[0], hip[1] - 0.035), (self.wide(0.045, 0.075), 0.06), person.bag_colour)
        elif person.bag == "hand":
            x, y = self.arm_joints(1)[2]
            half = self.wide(0.035, 0.075)
            self.rows(((y, half), (y - 0.13, half * 1.1)), person.bag_colour, x)

    def long_hair(self) -> None:
        """Draw the hair that falls behind the shoulders."""
        size = self.person.head
        self.ellipse((self.across(0, -0.02), 0.955 - size), (size * 0.92, size * 1.45), self.person.hair)

    def head(self) -> None:
        """Draw the head: hair, the face if it is turned to the camera, and a cap with its visor or a beanie."""
        person, size = self.person, self.person.head
        y, wide = 1.0 - size, size * 0.82
        hair = person.skin if person.hair_style == "bald" else person.hair
        if person.hair_style == "afro":
            self.disc((0, y + 0.012), size * 1.3, hair)
        elif person.hair_style == "long" and not self.faces_camera:
            self.long_hair()
        elif person.hair_style == "bun":
            self.disc((self.across(0, -0.05), y + size * 0.75), size * 0.5, hair)
        self.ellipse((0, y), (wide, size), hair)
        if self.cos > -0.45:
            turned = max(0.0, (self.cos + 0.45) / 1.45)
            face = (self.across(0, 0.026), y - size * 0.16)
            self.ellipse(face, (wide * (0.5 + 0.33 * turned), size * 0.8), person.skin)
        if person.hat != "none":
            low = y + size * 0.25
            rows = ((y + size * 1.12, wide * 0.6), (y + size * 0.7, wide * 1.1), (low, wide * 1.12))
            self.rows(rows, person.hat_colour)
            if person.hat == "cap" and self.cos > -0.3:
                self.ellipse(
                    (self.across(0, 0.06), low), (self.wide(0.05, 0.05), 0.013), scaled(person.hat_colour, 0.7)
                )


def draw_person(image: Image, person: Person, pose: Pose, position: Position) -> None:
    """Draw a person with its shadow on `image` (H, W, 3), in place."""
    height, width = image.shape[:2]
    foot_x, foot_y = min(width - 1, max(0, int(position.x))), min(height - 1, max(0, int(position.y)))
    red, green, blue = image[foot_y, foot_x].tolist()
    figure = Figure(image, person, pose, position)
    figure.ellipse((0.04, 0.01), (0.17, 0.025), scaled((red, green, blue), 0.65))
    figure.draw()
