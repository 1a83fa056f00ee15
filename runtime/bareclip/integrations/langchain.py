"""LangChain's ``Embeddings``: its vector stores, retrievers and caches take it as any other."""

from langchain_core.embeddings import Embeddings

from ..clip import Clip


class BareclipEmbeddings(Embeddings):
    """Texts and pictures as vectors of one space.

    Args:
        clip: What embeds; one with ``towers=("text",)`` embeds texts alone.

    Examples:
        >>> store = InMemoryVectorStore(BareclipEmbeddings(bareclip.load()))
        >>> ids = store.add_texts(["a cat", "a house"])
        >>> store.similarity_search("a kitten", k=1)[0].page_content
        'a cat'
    """

    def __init__(self, clip: Clip) -> None:
        self.clip = clip

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """N texts as N lists of D floats; raises what ``Clip.embed_texts`` raises."""
        return self.clip.embed_texts(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        """A text as D floats; raises what ``Clip.embed_texts`` raises."""
        return self.embed_documents([text])[0]

    def embed_image(self, uris: list[str]) -> list[list[float]]:
        """N paths of pictures as N lists of D floats.

        What stores with an ``add_images`` call, as Chroma's does. Raises what
        ``Clip.embed_images`` raises.
        """
        return self.clip.embed_images(uris).tolist()
