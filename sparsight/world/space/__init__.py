"""The world in three dimensions: rooms seen by several cameras, with depth and points."""

from sparsight.world.space.paint import Views, paint_room
from sparsight.world.space.questions import ROOM_TASKS, room_questions
from sparsight.world.space.room import Eye, Room, Solid, Surface, held_out_solid
from sparsight.world.space.sample import sample_room
from sparsight.world.space.write import RoomRequest, make_rooms
