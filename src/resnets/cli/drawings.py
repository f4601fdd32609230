"""Images that `resnets predict` writes beside its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnets.kinds.prediction import Prediction
    from resnets.runtime import Predictor
    from resnets.screen import Screen


MOST_DRAWN = 200  # images of a video


@dataclass(frozen=True)
class Drawings:
    """What is drawn of each prediction; None: nothing.

    Args:
        heat: Folder for class activation maps.
        draw: Folder for images with their predictions on them.
        masks: Folder for masks.
    """

    heat: Path | None = None
    draw: Path | None = None
    masks: Path | None = None

    def check(self) -> None:
        """Refuses what is no folder, before any work.

        Raises:
            ValueError: It is a file.
        """
        for name, folder in vars(self).items():
            if folder is not None and folder.exists() and not folder.is_dir():
                raise ValueError(f"--{name} {folder}: a file, not a folder; name another")

    def fit(self, predictor: Predictor) -> None:
        """Refuses what a network cannot give.

        Raises:
            ValueError: It gives no masks.
        """
        from resnets.kinds.prediction import Prediction

        kind = predictor.kind
        if self.masks is not None and kind.prediction.indexed is Prediction.indexed:
            raise ValueError(
                f"{predictor.name} gives {kind.name}, which are not for each pixel; leave out"
                " --masks"
            )

    def write(self, prediction: Prediction, predictor: Predictor, screen: Screen) -> None:
        """Writes them for a prediction without error.

        Args:
            prediction: Of a file.
            predictor: That made it.
            screen: Told of a file that is gone.

        Raises:
            ValueError: The network gives no maps.
        """
        from resnets.evaluation.maps import draw_map, write_mask
        from resnets.images import BadImage
        from resnets.screen import printable

        try:
            if self.heat is not None:
                heat = prediction.heat_map()
                if heat is None:
                    raise ValueError(
                        f"{predictor.name} gives no class activation maps; leave out --heat"
                    )
                draw_map(Path(prediction.file), heat, self.heat)
            if self.draw is not None:
                _draw(prediction, self.draw, predictor.kind.takes)
            if self.masks is not None:
                write_mask(prediction, self.masks)
        except BadImage as error:  # it was removed or changed a moment ago
            screen.warn(f"{printable(prediction.file)}: not drawn ({error})")


def _draw(prediction: Prediction, folder: Path, takes: str) -> None:
    from resnets.clip import spread
    from resnets.evaluation.maps import SHOWN, draw_prediction, draw_video

    if takes == "image":
        draw_prediction(prediction, folder)
    else:
        draw_video(prediction, spread(Path(prediction.file), SHOWN / 1000, MOST_DRAWN), folder)
