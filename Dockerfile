# docker build -t m2n2lab . && docker run -p 5006:5006 -v m2n2lab:/data m2n2lab
# It prints the link to open, with its token; runs are kept in the volume.
FROM python:3.12-slim

# Where pip finds PyTorch. Its own has CUDA, which runs without a GPU too and is some 3 GB larger;
# --build-arg TORCH_INDEX=ADDRESS names an index with builds for processors alone, or for another CUDA.
ARG TORCH_INDEX=""

WORKDIR /opt/m2n2lab
COPY constraints.txt ./
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -c constraints.txt torch
COPY pyproject.toml README.md LICENSE MANIFEST.in ./
COPY m2n2lab m2n2lab
COPY widgets widgets
RUN pip install --no-cache-dir -c constraints.txt ".[llm,images,notebooks]"
COPY notebooks notebooks

# Not as root: the page takes orders from a network.
RUN useradd --create-home lab && install -d -o lab /data
USER lab
WORKDIR /data
ENV M2N2LAB_RUNS=/data/runs M2N2LAB_CACHE=/data/cache
VOLUME /data
EXPOSE 5006
ENTRYPOINT ["m2n2lab"]
CMD ["serve", "--host", "0.0.0.0", "--token"]
