# A stand-in of Covalent's published base image, in what matters to an image built on it: all of it
# in /var/task by one `pip install --target` after the other, LAMBDA_TASK_ROOT as an ARG (which
# derived images do not inherit) and on PYTHONPATH, entry point, its own handler as CMD. The
# published one has Python 3.8; this one has any.
# Left out: Covalent itself, for the time that it takes; the handler does not import it.
ARG PYTHON
FROM public.ecr.aws/docker/library/python:${PYTHON}-slim
ARG PYTHON
ARG LAMBDA_TASK_ROOT=/var/task
RUN pip install --quiet --no-cache-dir --target ${LAMBDA_TASK_ROOT} awslambdaric \
 && pip install --quiet --no-cache-dir --target ${LAMBDA_TASK_ROOT} "boto3==1.26.110" \
 && pip install --quiet --no-cache-dir --target ${LAMBDA_TASK_ROOT} "cloudpickle==2.2.1"
RUN echo 'raise RuntimeError("the handler of the base was imported")' > ${LAMBDA_TASK_ROOT}/exec.py
ENV COVALENT_PLUGIN_LOAD=false
ENV PYTHONPATH=${LAMBDA_TASK_ROOT}:/tmp/.local/lib/python${PYTHON}/site-packages:$PYTHONPATH
WORKDIR ${LAMBDA_TASK_ROOT}
ENTRYPOINT ["python", "-m", "awslambdaric"]
CMD ["exec.handler"]
