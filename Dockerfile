# make build-image; make run data=/path/to/datasets runs=/path/to/runs command="train data=market1501"
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home reidlit
WORKDIR /reidlit
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY conf conf
COPY src src
RUN pip install --no-cache-dir '.[export]'
USER reidlit
WORKDIR /home/reidlit
# The torch wheels contain CUDA, so the container only needs --gpus all.
ENV REIDLIT_DATA=/data WANDB_MODE=offline
VOLUME ["/data", "/home/reidlit/runs"]
ENTRYPOINT ["reidlit"]
CMD ["--help"]
