"""The folders of an application that reads models by where they lie."""

from collections.abc import Sequence
from pathlib import Path

from modelbay.library.dir import Dir
from modelbay.library.folders import Application, Mapped, mapped
from modelbay.library.home import Home
from modelbay.plan import LADDER, Way
from modelbay.safepath import SafeRelPath
from modelbay.snapshot import ModelFile, Snapshot

_BESIDE = "../"


class Folders(Dir):
    """One model below an application's models folder; all of them share that folder's `Home`.

    Where the application keeps a category beside its models folder (`../embeddings`), the
    folder that holds both is the one that no link is followed below.
    """

    name = "folders"

    def __init__(
        self,
        home: Home,
        where: Mapped,
        *,
        own: str | None = None,
        ways: Sequence[Way] = LADDER,
        application: str | None = None,
    ) -> None:
        super().__init__(home.base, names=where.names, home=home, ways=ways)
        self.application = application
        self._where = where
        self._own = own
        self._folder = SafeRelPath.parse(where.folder.removeprefix(_BESIDE))

    def holding(self, files: Sequence[ModelFile]) -> "Folders":
        """The layout for exactly these files: where a folder of its `own` was meant for a
        model of several, they go there. Raises UsageError.
        """
        if self._own is None:
            return self
        where = mapped(self._where.folder, self._own, files, None, own=True)
        return Folders(self._home, where, ways=self.ways, application=self.application)

    def root(self, snapshot: Snapshot) -> Path:  # noqa: ARG002 - the same for every snapshot
        return self._root / self._folder

    def _name_of(self, file: ModelFile) -> str:
        return f"{self._folder}/{super()._name_of(file)}"


class Homes:
    """The `.modelbay` folder of each root, one object for all models that go below it: what
    one of them brought, the next can link.
    """

    def __init__(self) -> None:
        self._homes: dict[Path, Home] = {}

    def layout(
        self,
        root: Path,
        where: Mapped,
        *,
        own: str | None = None,
        ways: Sequence[Way] = LADDER,
        application: Application | None = None,
    ) -> Folders:
        """The layout for one model. `root` may be a link, and is resolved here. Into folders
        that the `application` writes to no hard link is made.
        """
        if application is not None and application.writes_into(where.folder):
            ways = [way for way in ways if way != "hard link"]
        base = root.resolve()
        if where.folder.startswith(_BESIDE):
            base = base.parent
        name = application.name if application is not None else None
        home = self._homes.setdefault(base, Home(base))
        return Folders(home, where, own=own, ways=ways, application=name)
